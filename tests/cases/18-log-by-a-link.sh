#!/bin/bash
# log_file is a symlink to a file, or /dev/stdout as containers have it
# Report: grafana/loki#1240, jedisct1/pure-ftpd#41, moby/moby#19616
. "$(dirname "$0")/lib.sh"
echo x >s/f; mkdir logs; : >logs/real; ln -s real logs/backup.log
config '"log_file":"logs/backup.log"'; "$TC" --config c.json config check >/dev/null || right "refused by config check"
once
[ -s logs/real ] && right "written"
wrong "exit $code, config check is fine, the log is never written: $(grep -o 'Output log_file failed[^"]*' log)"
