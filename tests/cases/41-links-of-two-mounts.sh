#!/bin/bash
# cross_mounts: two file systems in the source, each with two hard links, whose inode numbers are equal. Each content must be right, exit 0, and later cycles idle.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || cannot "needs root"
mkdir -p s/t1 s/t2 st; MOUNTS+=("$W/s/t1" "$W/s/t2"); mount -t tmpfs -o size=1m one s/t1 && mount -t tmpfs -o size=1m two s/t2 || cannot "no tmpfs"
for t in t1 t2; do echo "content of $t" >s/$t/a; ln s/$t/a s/$t/b; done
stat -c '%n inode %i' s/t?/a
printf '{"run_enabled":"Y","state_dir":"%s","pairs":[{"name":"p","source":"%s","dest":"%s","cross_mounts":true%s}]}' "$W/st" "$W/s" "$W/m" "$1" >c.json
bad=0
for n in 1 2 3; do
    "$TC" --config c.json run --once >log 2>&1; rc=$?
    grep -h '"pair_finished"' log | grep -o '"message": "[^"]*"'; grep -h '"file_copied"\|"drift_found"' log | grep -o '"message": "[^"]*"'
    for f in t1/a t1/b t2/a t2/b; do cmp -s s/$f m/$f || { echo "cycle $n, exit $rc: $f holds $(cat m/$f)"; bad=1; }; done
    [ m/t1/a -ef m/t1/b ] && [ m/t2/a -ef m/t2/b ] || { echo "cycle $n: links broken: $(stat -c '%n=%i' m/t?/? | tr '\n' ' ')"; bad=1; }
    [ $n = 1 ] || grep -q ' 0 copied' log || { echo "cycle $n is not idle"; bad=1; }
done
exit $bad
