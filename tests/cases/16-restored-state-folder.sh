#!/bin/bash
# A restore as README and .truecopy/README.txt say it: copy the mirror back with cp -a
# Report: cjnaz/rclonesync-V2#80
. "$(dirname "$0")/lib.sh"
echo x >s/f; config; once; rm -f s/f; cp -a m/. s/; once
[ $code = 0 ] && right "backed up as before"
wrong "after cp -a of the mirror back to the source each cycle ends $code: $(grep -o '"message": "Failed[^"]*"' log | head -1)"
