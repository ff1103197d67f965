#!/bin/bash
# A folder with a hard link becomes a file while the mirror's folder was taken away by a stranger: must heal and end 0, at the latest in the next cycle.
. "$(dirname "$0")/lib.sh"
command -v rsync >/dev/null || cannot "needs rsync"
mkdir st
printf '{"run_enabled":"Y","state_dir":"%s","pairs":[{"name":"p","source":"%s","dest":"%s","audit_interval":%s}]}' "$W/st" "$W/s" "$W/m" "${1:-0}" >c.json
run() { "$TC" --config c.json run --once >log 2>err; rc=$?; echo "ended $rc"; grep -h '"level": "error"' log | grep -o '"message": "[^"]*"'; return $rc; }
mkdir s/a; echo one >s/x; ln s/x s/y; ln s/x s/a/h
run || exit 1
rm -r s/a; echo "now a file" >s/a; rm -r m/a; ln -s nowhere m/a
run; for i in 1 2 3; do touch s/x; run; rc=$?; done
cmp s/a m/a && [ -z "$(rsync -niaH s/ m/)" ] && [ $rc = 0 ]
