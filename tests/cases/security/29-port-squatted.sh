#!/bin/bash
# Any local user listens on the metrics port first: does the service, whose work needs no port, back up at all?
. "$(dirname "$0")/lib.sh"
port=$(free_port); mkdir -p "$W/s" "$W/m"; echo x >"$W/s/f"
printf '{"pairs":[{"name":"p","source":"%s","dest":"%s"}],"metrics":{"port":%s},"sleep_time":3}' "$W/s" "$W/m" $port >"$W/c.json"
setpriv --reuid $STRANGER --regid $STRANGER --clear-groups "$PY" -c "import socket,sys,time; s=socket.create_server(('127.0.0.1',$port)); time.sleep(60)" & PIDS=$!; sleep 1
timeout 8 "$TC" --config "$W/c.json" run >"$W/out" 2>&1; r=$?; echo "exit $r: $(tail -2 "$W/out" | cut -c1-220)"
[ -e "$W/m/f" ] || bad "with its port taken by another user the service does not start, and nothing is backed up"
good "it backs up without its port"
