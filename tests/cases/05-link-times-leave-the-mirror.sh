#!/bin/bash
# A mirror on sshfs, which sets times and owners of a symlink on what it points at
# Report: libfuse/sshfs#250 and #105
. "$(dirname "$0")/lib.sh"
fuse "$W/m" follow
echo secret >outside; touch -d @1500000000 outside; chown 0:0 outside
ln -s "$W/outside" s/link; chown -h 1001:1001 s/link; touch -h -d @1400000000 s/link
config; once
now=$(stat -c '%u:%g %Y' outside)
[ "$now" = "0:0 1500000000" ] && right "the file outside is as it was (exit $code)"
wrong "exit $code, and a file outside source and mirror that a symlink names is changed: owner and time 0:0 1500000000 -> $now"
