#!/bin/bash
# A disk that is mounted in a folder of the source, as volumes of a container are
# Report: Aterfax/pbs-client-docker#17, backuppc/backuppc#459
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || cannot "needs root"
mkdir s/photos; echo old >s/photos/p; config '"error_log_file":"errors.log","metrics":{"textfile":"x.prom"}'; once
[ -e m/photos/p ] || cannot "the first cycle did not copy"
mount -t tmpfs none s/photos || cannot "no tmpfs"; MOUNTS+=("$W/s/photos")
echo new >s/photos/p; echo more >s/photos/q; once
[ -e m/photos/q ] && right "it is copied"
"$TC" --config c.json compare >compared 2>&1; differs=$?
[ $code = 0 ] && [ ! -s errors.log ] && [ $differs = 0 ] &&
  wrong "exit 0, no warning, last_success moves; photos/q is missing and photos/p is old; compare says '$(tail -1 compared)'"
right "told: exit $code, compare $differs, $(wc -l <errors.log) warnings"
