#!/bin/bash
# What a hostile Pushgateway can do to the service that pushes to it: each of its answers for 20 seconds, cycles every 2 s.
. "$(dirname "$0")/lib.sh"
mkdir "$W/s" "$W/m"; echo x >"$W/s/f"; wrong=
for how in ${HOW:-continue continue-headers body errbody line redirect auth drip}; do
  port=$(free_port); : >"$W/seen"; "$PY" "$(dirname "$0")/gateway.py" $port $how "$W/seen" 2>/dev/null & G=$!; sleep 0.5
  printf '{"pairs":[{"name":"p","source":"%s","dest":"%s"}],"sleep_time":2,"metrics":{"enabled":false,"pushgateway":"http://127.0.0.1:%s","pushgateway_username":"u","pushgateway_password":"hunter2"}}' "$W/s" "$W/m" $port >"$W/c.json"
  "$TC" --config "$W/c.json" run >"$W/out" 2>&1 & S=$!; PIDS="$G $S"; sleep 18
  cpu=$(awk '{print ($14+$15)/100}' /proc/$S/stat); rss=$(awk '/VmHWM/{print int($2/1024)}' /proc/$S/status); fds=$(ls /proc/$S/fd | wc -l); th=$(awk '/Threads/{print $2}' /proc/$S/status)
  cyc=$(grep -c '"cycle_finished"' "$W/out"); log=$(stat -c %s "$W/out"); stolen=$(grep -ac stolen "$W/seen"); pw=$(grep -c hunter2 "$W/out")
  kill $S; t0=$SECONDS; wait $S 2>/dev/null; took=$((SECONDS-t0)); kill $G; wait $G 2>/dev/null; PIDS=
  echo "$how: CPU $cpu s in 18 s, $rss MB, $fds descriptors, $th threads, $cyc cycles, log $((log/1000)) kB, redirected $stolen, password told $pw, stop took $took s; $(grep -ho '"output": "pushgateway", "error": ".\{0,70\}' "$W/out" | tail -1)"
  "$PY" -c "import sys; sys.exit(not ($cpu>9 or $rss>200 or $fds>60 or $stolen or $pw or $took>6 or $log>3000000))" && wrong="$wrong $how"
done
[ -n "$wrong" ] && bad "harmed by:$wrong"
good "none of them does harm"
