# shellcheck shell=bash
# Sourced by each case. Exit status: 0 the product is right, 1 it is wrong, 77 this machine cannot make the case.
# TC is the path of truecopy. The work folder holds a source `s` and a mirror `m`; it is removed at the end.
: "${TC:?set TC to the path of truecopy}"
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
W=$(mktemp -d) || exit 77
MOUNTS=()
tidy() {
  cd / || exit
  for m in "${MOUNTS[@]}"; do umount -l "$m" 2>/dev/null; done
  ((${#MOUNTS[@]})) && sleep 0.3
  rm -rf --one-file-system "$W"
}
trap tidy EXIT
right() { echo "RIGHT: $*"; exit 0; }
wrong() { echo "WRONG: $*"; exit 1; }
cannot() { echo "CANNOT: $*"; exit 77; }
mkdir "$W/s" "$W/m" "$W/tmp"
export TMPDIR=$W/tmp XDG_STATE_HOME=$W/xdg-state
cd "$W" || exit 77

# config [MORE]: the original's keys for s and m, and more JSON members.
config() { printf '{"source_dirs":["%s"],"dest_dirs":["%s"]%s}' "$W/s" "$W/m" "${1:+,$1}" >c.json; chmod 644 c.json; }
once() { "$TC" --config c.json run --once -q >log 2>err; code=$?; }

# fuse FOLDER NATURE...: mount a file system in memory there, which has these natures (memfs.py).
fuse() {
  [ "$(id -u)" = 0 ] && [ -e /dev/fuse ] || cannot "needs root and /dev/fuse"
  python3 "$HERE/memfs.py" "$@" 2>fuse.err || cannot "$(cat fuse.err)"
  MOUNTS+=("$1")
}
