#!/bin/bash
# Who may edit the config, but not read the secret (a _FILE variable), names another Pushgateway: the next cycle sends it the password.
. "$(dirname "$0")/lib.sh"
port=$(free_port); mkdir "$W/s" "$W/m"; echo x >"$W/s/f"; echo hunter2 >"$W/pw"; chmod 600 "$W/pw"; : >"$W/seen"
"$PY" "$(dirname "$0")/gateway.py" $port auth "$W/seen" & PIDS=$!; sleep 0.5
printf '{"pairs":[{"name":"p","source":"%s","dest":"%s"}],"metrics":{"enabled":false,"pushgateway":"http://127.0.0.1:%s","pushgateway_username":"u"}}' "$W/s" "$W/m" $port >"$W/c.json"
TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD_FILE="$W/pw" "$TC" --config "$W/c.json" run --once >"$W/out" 2>&1; sleep 0.3
grep -aq "$(printf 'u:hunter2' | base64)" "$W/seen" && bad "the password goes to whatever address the config names, over plain http, with no word about it (told: $(grep -ci 'plain\|http:' "$W/out"))"
good "it is not sent"
