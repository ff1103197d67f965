#!/bin/bash
# A source on rclone mount, where listing extended attributes is an I/O error
# Report: restic/restic#1736, calibrain/shelfmark#949
. "$(dirname "$0")/lib.sh"
fuse "$W/s" xeio
echo t >s/top; config; once
[ -e m/top ] && right "the content is copied (exit $code)"
cat s/top >/dev/null || cannot "it cannot be read at all"
wrong "exit $code, nothing is ever copied although every file can be read: $(grep -o '"message": "Failed[^"]*"' log | head -1)"
