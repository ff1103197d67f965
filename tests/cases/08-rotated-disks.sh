#!/bin/bash
# Two exFAT disks that take turns as the mirror, with state_dir (the default of the container)
# Report: duplicati/duplicati#2692 and #2633, borgbackup/borg#4776
. "$(dirname "$0")/lib.sh"
mkdir s/d A B st; fuse "$W/A" fat; fuse "$W/B" fat
echo version-1 >s/d/f; touch -d '-1 hour' s/d/f s/d s
config "\"state_dir\":\"$W/st\""
plug() { mount --bind "$W/$1" m; "$TC" --config c.json adopt s >/dev/null; once; umount m; }
plug A; plug B; printf 'version-2, longer\n' >s/d/f; sleep 2.1; plug A; plug B
[ $code = 0 ] && ! cmp -s s/d/f B/d/f && wrong "disk B still has '$(cat B/d/f)' while the source has '$(cat s/d/f)', and the cycle on it was a success: $(grep -o 'Pair s success[^"]*' log)"
right "disk B is up to date or it is told (exit $code)"
