#!/bin/bash
# Somebody who can reach the port asks for /metrics all the time, over three connections. The service's own work shares one
# interpreter lock with the port's threads: how much longer does a cycle take?
. "$(dirname "$0")/lib.sh"
port=$(free_port); mkdir -p "$W/s" "$W/m"; echo x >"$W/s/f"
printf '{"pairs":[{"name":"p","source":"%s","dest":"%s"}],"metrics":{"port":%s},"sleep_time":5}' "$W/s" "$W/m" $port >"$W/c.json"
"$TC" --config "$W/c.json" run >"$W/out" 2>&1 & S=$!; PIDS=$S
for _ in $(seq 60); do sleep 0.5; grep -q '"event": "pair_finished"' "$W/out" && break; done
times() { grep '"event": "pair_finished"' "$W/out" | grep -o '"copied": 1500.*"duration_seconds": [0-9.]*' | grep -o '[0-9.]*$'; }
make() { "$PY" -c "import os,sys
os.mkdir(sys.argv[1]+'/new'+sys.argv[2])
for i in range(1500): open(sys.argv[1]+'/new'+sys.argv[2]+'/%d'%i,'w').write('x')" "$W/x" $1; mv "$W/x/new$1" "$W/s/"; }
mkdir "$W/x"
make 1; for _ in $(seq 60); do sleep 0.5; [ "$(times | wc -l)" -ge 1 ] && break; done; quiet=$(times | sed -n 1p)
setpriv --reuid $STRANGER --regid $STRANGER --clear-groups "$PY" "$(dirname "$0")/http_flood.py" $port 3 100 >/dev/null 2>&1 & PIDS="$PIDS $!"
sleep 1; make 2; for _ in $(seq 160); do sleep 0.5; [ "$(times | wc -l)" -ge 2 ] && break; done; loud=$(times | sed -n 2p)
echo "1,500 new files: ${quiet:-?} s when the port is quiet, ${loud:-more than 80} s while it is asked all the time"
[ -n "$quiet" ] || cannot "no measurement: $(tail -1 "$W/out" | cut -c1-300)"
"$PY" -c "import sys; sys.exit(float('${loud:-80}') > 5*float('$quiet'))" || bad "three connections to the port make the backup more than five times slower"
good "less than five times slower"
