#!/bin/bash
# logrotate moves the log, or copies and cuts it off, or somebody deletes its folder, while the service runs
# Report: oetiker/znapzend#587, logrotate/logrotate#338
. "$(dirname "$0")/lib.sh"
echo x >s/f; mkdir lg; config '"log_level":"debug","metrics":{"enabled":false},"sleep_time":1,"log_file":"lg/b.log"'
"$TC" --config c.json run >log 2>err & service=$!
sleep 3; mv lg/b.log lg/b.1; sleep 2.5; cp lg/b.log lg/b.2; : >lg/b.log; sleep 2.5; mv lg lg.old; sleep 2.5; kill $service; wait $service
cat lg.old/b.1 lg.old/b.2 lg.old/b.log lg/b.log >all
cmp -s all log && right "not a line lost or torn ($(wc -l <all))"
wrong "$(wc -l <log) lines were told, $(wc -l <all) are in the files"
