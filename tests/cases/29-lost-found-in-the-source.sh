#!/bin/bash
# lost+found of an ext4 source, which only root may read, and a job that is not root
# Report: backube/volsync#542
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] && command -v setpriv >/dev/null || cannot "needs root and setpriv"
mkdir -m 700 "s/lost+found"; echo x >s/f; chown 65534:65534 m; chmod 777 tmp; chmod 755 .; config
setpriv --reuid 65534 --regid 65534 --clear-groups "$TC" --config "$W/c.json" run --once -q >log 2>err; code=$?
[ $code = 0 ] && right "left out, exit 0"
wrong "each cycle ends $code until somebody excludes it: $(grep -o '"message": "Failed[^"]*"' log | head -1)"
