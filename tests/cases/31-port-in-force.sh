#!/bin/bash
# The port of the metrics is changed while the service runs; the log says that the new file is in force
# Report: haproxytech/dataplaneapi#364, jvinet/knock#2
. "$(dirname "$0")/lib.sh"
python3 - <<'PYTHON' >ports || cannot "no free ports"
import socket
a, b = socket.socket(), socket.socket(); a.bind(("127.0.0.1", 0)); b.bind(("127.0.0.1", 0)); print(a.getsockname()[1], b.getsockname()[1])
PYTHON
read -r old new <ports; echo x >s/f; config "\"sleep_time\":1,\"metrics\":{\"port\":$old}"
"$TC" --config c.json run >log 2>err & service=$!
sleep 3; config "\"sleep_time\":1,\"metrics\":{\"port\":$new}"; sleep 7
answers() { python3 -c "import sys, urllib.request; urllib.request.urlopen('http://127.0.0.1:%s/metrics' % sys.argv[1], timeout=3)" "$1" 2>/dev/null; }
answers "$new" && served=yes; kill $service; wait $service
[ "${served:-}" ] && right "served on the new port"
grep -q '"event": "config_reloaded"' log || right "not said to be in force"
grep -q restart log && right "said to need a restart"
wrong "the log says '$(grep -o 'The changed[^"]*' log | head -1)', but nothing answers on the new port and nothing says that a restart is needed"
