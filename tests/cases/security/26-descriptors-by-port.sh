#!/bin/bash
# 300 connections to the port, and a soft limit of 256/400 descriptors: does the cycle fail for it?
. "$(dirname "$0")/lib.sh"
port=$(free_port); mkdir -p "$W/s" "$W/m"; echo x >"$W/s/f"
printf '{"pairs":[{"name":"p","source":"%s","dest":"%s"}],"metrics":{"port":%s},"sleep_time":3}' "$W/s" "$W/m" $port >"$W/c.json"
(ulimit -n ${NOFILE:-256}; exec "$TC" --config "$W/c.json" run >"$W/out" 2>&1) & S=$!; PIDS=$S; sleep 3
"$PY" "$(dirname "$0")/http_slots.py" $port 440 25 >/dev/null & PIDS="$PIDS $!"; sleep 8; echo new >"$W/s/g"; sleep 12
grep -o '"event": "\(pair_failed\|pair_refused\|cycle_crashed\|output_failed\)".\{0,200\}' "$W/out" | sort | uniq -c | sort -rn | head -4; ls /proc/$S/fd 2>/dev/null | wc -l; kill -0 $S || echo "the service is gone"
[ -e "$W/m/g" ] || bad "with the port full (limit ${NOFILE:-256} descriptors) no cycle copies anything"
good "cycles go on"
