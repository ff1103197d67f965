#!/bin/bash
# Character classes of gitignore: [[:digit:]], and a bracket inside brackets: [[]x[]].
. "$(dirname "$0")/lib.sh"
command -v git >/dev/null || cannot "needs git"
mkdir st; echo x >s/log.1; echo y >s/log.a; echo z >'s/[x]'
printf '{"run_enabled":"Y","state_dir":"%s","pairs":[{"name":"p","source":"%s","dest":"%s","exclude":["log.[[:digit:]]","[[]x[]]"]}]}' "$W/st" "$W/s" "$W/m" >c.json
"$TC" --config c.json run --once >log 2>&1; echo "ended $?; mirrored: $(cd m; find . -type f | sort | tr '\n' ' ')"
git init -q --bare g; printf '%s\n' 'log.[[:digit:]]' '[[]x[]]' >g/info/exclude; echo "git keeps: $(cd s; git --git-dir ../g --work-tree . ls-files --others --exclude-standard | tr '\n' ' ')"
# Truecopy's own folder in the mirror, which holds identity.json, is no part of the comparison.
[ "$(cd m; find . -path ./.truecopy -prune -o -type f -print | tr '\n' ' ')" = "./log.a " ]
