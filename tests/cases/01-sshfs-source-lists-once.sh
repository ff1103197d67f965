#!/bin/bash
# A source on sshfs whose folder cache is off or has run out: the second listing by one descriptor is empty
# Report: libfuse/sshfs#278 and #375, rclone/rclone#9469, awslabs/mountpoint-s3#819
. "$(dirname "$0")/lib.sh"
fuse "$W/s" once
mkdir s/d; echo one >s/top; echo two >s/d/in
config; once
mkdir other; cp -r s/. other
[ -e other/top ] && [ -e other/d/in ] || cannot "cp does not read it either"
[ -e m/top ] && [ -e m/d/in ] && right "all is copied"
[ $code = 0 ] && wrong "exit 0 and 'success', but nothing of top and d/in is in the mirror ($(ls m | wc -l) entries; cp copies both)"
right "told with exit $code: $(grep -o '"message": "[^"]*"' log | tail -2 | head -1)"
