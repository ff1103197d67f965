#!/bin/bash
# A folder that everybody may write to, as in the source. A user puts a file of the same content in the place of another
# user's set-ID program in the mirror, maps it for writing, and writes into it once it has that user's owner and mode.
. "$(dirname "$0")/lib.sh"
mkdir "$W/s" "$W/s/shared" "$W/m"; chmod 777 "$W/s/shared"; chmod 755 "$W/m"
printf 'harmless program' >"$W/s/shared/prog"; chown $OWNER:$OWNER "$W/s/shared/prog"; chmod 4755 "$W/s/shared/prog"
conf "$W/s" "$W/m" '"keep_setuid":true,"audit_interval":0'; once; [ "$rc" = 0 ] || bad "first run: $rc: $(cat "$W/err")"
cat >"$W/plant.py" <<'P'
import mmap, os, sys, time
path, done = sys.argv[1:]
content = open(path, "rb").read()
os.unlink(path)
with open(path, "w+b") as file:
    file.write(content)
    file.flush()
    view = mmap.mmap(file.fileno(), len(content))
print("planted", flush=True)
while not os.path.exists(done):
    time.sleep(0.05)
view[:9] = b"dangerous"
view.close()
P
as $STRANGER "$PY" "$W/plant.py" "$W/m/shared/prog" "$W/done" >"$W/planted" 2>"$W/plant.err" & planter=$!; PIDS=$planter
for _ in $(seq 100); do [ -s "$W/planted" ] && break; sleep 0.1; done; [ -s "$W/planted" ] || cannot "nothing planted: $(cat "$W/plant.err")"
once; [ "$rc" = 0 ] || bad "second run: $rc: $(cat "$W/err")"
touch "$W/done"; wait $planter; PIDS=
[ "$(stat -c '%u %a' "$W/m/shared/prog")" = "$OWNER 4755" ] || bad "the copy has $(stat -c '%u %a' "$W/m/shared/prog")"
cmp -s "$W/s/shared/prog" "$W/m/shared/prog" || bad "the stranger wrote into the owner's set-ID program: $(cat "$W/m/shared/prog")"
good "what the stranger holds open is not the copy"
