#!/bin/bash
# As root: another user has put a link in the place of the log's folder. rsync 3.5.0 refuses to write its log through it.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || cannot "needs root"
mkdir st victim open; echo x >s/f
ln -s "$W/victim" open/logs; chown -h 65534:65534 open/logs
printf '{"run_enabled":"Y","state_dir":"%s","log_file":"%s","pairs":[{"name":"p","source":"%s","dest":"%s"}]}' "$W/st" "$W/open/logs/backup.log" "$W/s" "$W/m" >c.json
"$TC" --config c.json run --once >log 2>&1; echo "ended $?; in the victim's folder: $(ls victim)"
[ -z "$(ls victim)" ]
