#!/bin/bash
# 200 connections ask for /metrics hundreds of times each and read no answer: what does the service hold for them in memory and in
# temporary files, and do health checks get through?
. "$(dirname "$0")/lib.sh"
port=$(free_port); mkdir -p "$W/s" "$W/m"; echo x >"$W/s/f"
printf '{"pairs":[{"name":"p","source":"%s","dest":"%s"}],"metrics":{"port":%s},"sleep_time":3600}' "$W/s" "$W/m" $port >"$W/c.json"
"$TC" --config "$W/c.json" run >"$W/out" 2>&1 & S=$!; PIDS=$S; sleep 2
"$PY" "$(dirname "$0")/http_pipe.py" $port $S 200 ${SECS:-15}; r=$?
[ $r = 1 ] && bad "unread answers pile up in the service, or health checks fail"
[ $r = 0 ] && good "unread answers stay few"; cannot "the attack could not be tried"
