#!/bin/bash
# Started with standard output closed, as some schedulers and service managers do
# Report: pixelb/crudini#82 and #67
. "$(dirname "$0")/lib.sh"
echo x >s/f; config '"log_file":"b.log"'
"$TC" --config c.json run --once >&- 2>err; code=$?
[ $code = 0 ] && [ -e m/f ] && right "backed up"
wrong "exit $code, nothing is backed up, and a traceback: $(tail -1 err)"
