#!/bin/bash
# A fresh ext4 disk as mirror, which has lost+found, and a source that has nothing in it yet
# Report: apecloud/kubeblocks-addons#2901, camunda/camunda#32393
. "$(dirname "$0")/lib.sh"
mkdir -m 700 "m/lost+found"; config; once
[ $code = 0 ] && right "nothing to do"
wrong "exit $code: $(grep -o '"error": "[^"]*"' log | head -1)"
