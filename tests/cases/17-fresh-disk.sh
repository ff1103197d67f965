#!/bin/bash
# A fresh ext4 disk as mirror, which has lost+found, and a source that has nothing in it yet
# Report: apecloud/kubeblocks-addons#2901, camunda/camunda#32393
. "$(dirname "$0")/lib.sh"
# allow_empty: a source that never had an entry is refused otherwise (tests/faults/test_first_use.py).
mkdir -m 700 "m/lost+found"; config '"allow_empty":true'; once
[ $code = 0 ] && right "nothing to do"
wrong "exit $code: $(grep -o '"error": "[^"]*"' log | head -1)"
