#!/bin/bash
# "*[!0-9]" leaves out what does not end in a digit; the folder 2024 does, so git keeps it, and so must the mirror.
. "$(dirname "$0")/lib.sh"
command -v git >/dev/null || cannot "needs git"
mkdir -p s/2024 st; echo x >s/2024/5; echo y >s/notes
printf '{"run_enabled":"Y","state_dir":"%s","pairs":[{"name":"p","source":"%s","dest":"%s","exclude":["*[!0-9]"]}]}' "$W/st" "$W/s" "$W/m" >c.json
"$TC" --config c.json run --once >log 2>&1; echo "ended $?; mirrored: $(cd m; find . -type f | tr '\n' ' ')"
git init -q --bare g; echo '*[!0-9]' >g/info/exclude; echo "git keeps: $(cd s; git --git-dir ../g --work-tree . ls-files --others --exclude-standard | tr '\n' ' ')"
[ -f m/2024/5 ]
