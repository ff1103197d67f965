#!/bin/bash
# A mirror whose folder belongs to somebody else but may be written (fsGroup of Kubernetes)
# Report: deajan/osync#238 and #109
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] && command -v setpriv >/dev/null || cannot "needs root and setpriv"
echo x >s/f; chown -R 65534:65534 s; chown 0:2000 m; chmod 2775 m; chmod 777 tmp; chmod 755 .; config
setpriv --reuid 65534 --regid 65534 --groups 2000 "$TC" --config "$W/c.json" run --once -q >log 2>err; code=$?
[ $code = 0 ] && [ -e m/f ] || wrong "exit $code: $(tail -1 err)"
grep -q 'first met at : ' log && wrong "exit 0 as it should, but the warning names nothing: $(grep -o '"message": "The mirror does not[^"]*"' log | head -1)"
right "exit 0"
