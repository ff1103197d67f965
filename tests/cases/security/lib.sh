# shellcheck shell=bash
# Sourced by each case. Exit status: 0 the product is right, 1 it is wrong, 77 this machine cannot make the case.
# TC is the path of truecopy, SRC the root of the repository. Unless ANY_USER is set, the case needs root: it acts as
# three users who have no rights, FIRST, OWNER and STRANGER. The work folder W is removed at the end.
set -u
TC=${TC:-truecopy}; TC=$(command -v "$TC")
BASE=${CASES_TMP:-/var/tmp/truecopy-cases}
[ "$(id -u)" = 0 ] || [ -n "${ANY_USER:-}" ] || { echo "needs root"; exit 77; }
[ -n "$TC" ] || { echo "no truecopy at $TC"; exit 77; }
mkdir -p "$BASE"; W=$(mktemp -d "$BASE/c.XXXXXX"); chmod 755 "$W"
mkdir -m 700 "$W/tmp"; export TMPDIR="$W/tmp"     # its private folder is not the machine's
export XDG_STATE_HOME="$W/memory"                 # nor what it remembers of mirrors; removed where a mirror begins anew
PIDS=; MOUNTS=
cleanup() {
  { for p in $PIDS; do kill -9 "$p"; wait "$p"; done; } 2>/dev/null
  for m in $MOUNTS; do umount -l "$m" 2>/dev/null; done
  rm -rf --one-file-system "$W"
}
trap cleanup EXIT
# as USER COMMAND...: run a command as a user without rights; whoever is not root is such a user already.
as() { local u=$1; shift; if [ "$(id -u)" = 0 ]; then setpriv --reuid "$u" --regid "$u" --clear-groups -- "$@"; else "$@"; fi; }
# shellcheck disable=SC2034  # for the cases
FIRST=64001 OWNER=64002 STRANGER=64003
conf() { # conf SOURCE MIRROR [more json members]
  printf '{"pairs":[{"name":"p","source":"%s","dest":"%s"}],"metrics":{"enabled":false}%s}\n' "$1" "$2" "${3:+,$3}" >"$W/c.json"
}
once() { "$TC" --config "$W/c.json" run --once >"$W/out" 2>"$W/err"; rc=$?; }
bad() { echo "NOT RIGHT: $*"; exit 1; }
good() { echo "right: $*"; exit 0; }
cannot() { echo "cannot: $*"; exit 77; }
PY=; for p in /usr/bin/python3 /usr/local/bin/python3; do [ -x "$p" ] && as 64003 "$p" -c 1 2>/dev/null && PY=$p && break; done; [ -n "$PY" ] || cannot "no python for ordinary users"
# free_port: give a port that nobody listens on.
free_port() { "$PY" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
