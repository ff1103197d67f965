#!/bin/bash
# A new mirror on sshfs: files that are there are told to have failed
# Report: libfuse/sshfs#278 and #375
. "$(dirname "$0")/lib.sh"
fuse "$W/m" once
echo t >s/top; config; once
[ -e m/top ] || wrong "not copied"
[ $code = 0 ] && right "copied and told so"
wrong "exit $code although m/top is there: $(grep -o '"message": "Failed[^"]*"' log | head -1)"
