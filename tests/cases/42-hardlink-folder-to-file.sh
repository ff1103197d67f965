#!/bin/bash
# x, y and a/h are one file; then the folder a is removed and a file takes its name: everything is copied, so the cycle must end 0.
. "$(dirname "$0")/lib.sh"
command -v rsync >/dev/null || cannot "needs rsync"
mkdir st
printf '{"run_enabled":"Y","state_dir":"%s","pairs":[{"name":"p","source":"%s","dest":"%s"}]}' "$W/st" "$W/s" "$W/m" >c.json
run() { "$TC" --config c.json run --once >log 2>err; rc=$?; echo "ended $rc"; grep -h '"level": "error"' log | grep -o '"message": "[^"]*"'; return $rc; }
mkdir s/a; echo one >s/x; ln s/x s/y; ln s/x s/a/h
run || exit 1
rm -r s/a; echo "now a file" >s/a
run; code=$rc; [ -z "$(rsync -niaH s/ m/)" ] && echo "content is right"; run
[ $code = 0 ]
