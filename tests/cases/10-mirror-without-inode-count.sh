#!/bin/bash
# A mirror on rclone mount, which says that none of its 1,000,000,000 inodes are free
# Report: rclone/rclone#2089 (fixed upstream, not in the rclone of Debian 12)
. "$(dirname "$0")/lib.sh"
fuse "$W/m" noinodes
echo t >s/top; config; once
[ -e m/top ] && right "copied (exit $code)"
cp s/top m/by-cp || cannot "cp cannot write there either"
wrong "exit $code, nothing is ever copied there, while cp works: $(grep -o '"message": "Failed[^"]*"' log | head -1)"
