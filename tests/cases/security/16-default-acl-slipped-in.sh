#!/bin/bash
# The owner of a folder (stranger; in source and mirror alike) gives its mirror a default ACL for herself while files of owner's are
# copied into it. Whether there is one is asked once, when the folder is entered: later files keep what they inherit, and
# stranger may read owner's files of mode 640 in the mirror for good. Nothing finds it afterwards.
. "$(dirname "$0")/lib.sh"
command -v setfacl >/dev/null || cannot "no setfacl"
mkdir -p "$W/s/share" "$W/m"; chmod 755 "$W/s" "$W/m"; chown $STRANGER:$STRANGER "$W/s/share"; chmod 1777 "$W/s/share"; conf "$W/s" "$W/m"
once; [ $rc = 0 ] || cannot "first run"
as $OWNER "$PY" - "$W/s/share" "${FILES:=8000}" <<'P'
import os,sys
os.umask(0o027)
for i in range(int(sys.argv[2])):
    with open(f"{sys.argv[1]}/owner{i:05}","w") as f: f.write(f"owner's {i}\n"*50)
P
sleep 4 # so that the files are no longer young: those are looked at again by the next cycle
as $STRANGER cat "$W/s/share/owner00999" 2>/dev/null && cannot "stranger may read the source"
cat >"$W/grab.py" <<'P'
import os,struct,sys,time
d=sys.argv[1]; me=os.getuid(); no=0xffffffff
acl=struct.pack("<I",2)+b"".join(struct.pack("<HHI",*e) for e in ((1,7,no),(2,7,me),(4,7,no),(16,7,no),(32,7,no)))
end=time.time()+60
while time.time()<end:
    if any(n.startswith(".truecopy-tmp") for n in os.listdir(d)):
        os.setxattr(d,"system.posix_acl_default",acl); print("set",flush=True); break
    time.sleep(0.0005)
P
chmod 644 "$W/grab.py"; setpriv --reuid $STRANGER --regid $STRANGER --clear-groups "$PY" "$W/grab.py" "$W/m/share" >"$W/grab" & PIDS=$!
once; n=$(as $STRANGER sh -c "cat '$W/m/share'/owner* 2>/dev/null | wc -l"); echo "exit $rc; stranger: $(cat "$W/grab"); files of owner's that stranger reads in the mirror: $((n/50)) of $FILES"
getfacl -pn "$W/m/share/owner$(printf %05d $((FILES - 1)))" 2>/dev/null | grep "user:$STRANGER"; once; echo "next cycle: exit $rc"
n=$(as $STRANGER sh -c "cat '$W/m/share'/owner* 2>/dev/null | wc -l"); echo "after it: $((n/50))"
printf '{"pairs":[{"name":"p","source":"%s","dest":"%s"}],"audit_interval":0}' "$W/s" "$W/m" >"$W/c.json"; once; n=$(as $STRANGER sh -c "cat '$W/m/share'/owner* 2>/dev/null | wc -l"); echo "after an audit: exit $rc, $((n/50)); compare: $("$TC" --config "$W/c.json" compare 2>&1 | tail -1)"
[ "$((n/50))" -gt 0 ] && bad "an ACL slipped in by the folder's owner stays on other users' files, unnoticed"
good "no file has it"
