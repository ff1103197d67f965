#!/bin/bash
# More hard links to one file than the mirror can hold (ext4: 65000)
# Report: RsyncProject/rsync#741, ewxrjk/rsbackup#85, bit-team/backintime#475
. "$(dirname "$0")/lib.sh"
fuse "$W/m" few
echo x >s/n1; for i in 2 3 4 5 6 7 8; do ln s/n1 s/n$i; done; config; once
n=$(cat m/n* | wc -l)
[ $code = 0 ] && [ "$n" = 8 ] && right "the others become files of their own, told, exit 0"
wrong "exit $code, $n of 8 names copied"
