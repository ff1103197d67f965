#!/bin/bash
# SIGHUP: from logrotate, from docker kill -s HUP, or because the terminal is closed
# Report: logrotate/logrotate#99, grke/burp#486, oetiker/znapzend#587
. "$(dirname "$0")/lib.sh"
echo x >s/f; config '"metrics":{"enabled":false},"sleep_time":60'
"$TC" --config c.json run >log 2>err & service=$!
for i in $(seq 50); do grep -q pair_finished log && break; sleep 0.2; done
kill -HUP $service; sleep 1
if kill -0 $service 2>/dev/null; then kill -TERM $service; wait $service; right "the service goes on"; fi
wait $service 2>/dev/null; code=$?
grep -q service_stopped log && right "ended and told so (exit $code)"
wrong "SIGHUP ends the service at once with exit $code and not a word in the log: the last line is $(tail -1 log | grep -o '"event": "[^"]*"')"
