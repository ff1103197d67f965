#!/bin/bash
# 440 connections from one host, a byte each in 7 seconds, hold all 300 places of the port (a request may come in 32 pieces, each
# of which resets the 10 s). k8s/deployment asks /healthz through the same port: four failures in a row restart the pod in mid-cycle.
. "$(dirname "$0")/lib.sh"
port=$(free_port); mkdir -p "$W/s" "$W/m"; echo x >"$W/s/f"
printf '{"pairs":[{"name":"p","source":"%s","dest":"%s"}],"metrics":{"port":%s},"sleep_time":3600}' "$W/s" "$W/m" $port >"$W/c.json"
"$TC" --config "$W/c.json" run >"$W/out" 2>&1 & PIDS=$!; sleep 2
setpriv --reuid $STRANGER --regid $STRANGER --clear-groups "$PY" "$(dirname "$0")/http_slots.py" $port 440 ${SECS:-40}; r=$?
"$TC" --config "$W/c.json" healthcheck; grep -A3 livenessProbe ${SRC:-.}/k8s/deployment/deployment.yaml 2>/dev/null | tr '\n' ' '; echo
[ $r = 1 ] && bad "four health checks in a row fail while the service is well: with k8s/deployment the pod is restarted for as long as the attack lasts"
[ $r = 0 ] && good "health checks get through"; cannot "the attack could not be tried"
