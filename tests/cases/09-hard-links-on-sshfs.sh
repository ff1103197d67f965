#!/bin/bash
# Hard links to a mirror on sshfs or mergerfs: link(2) works, but each name has an inode number of its own
# Report: libfuse/sshfs#109, trapexit/mergerfs#277, miquels/liblockfile#9, gentoo/portage#410
. "$(dirname "$0")/lib.sh"
fuse "$W/m" sshlink
echo data >s/a; ln s/a s/b; config; once; once
[ -e m/a ] && [ -e m/b ] && right "both names have the content (exit $code)"
wrong "in each cycle exit $code, one name never gets into the mirror ($(ls m | tr '\n' ' ')): $(grep -o '"message": "Failed[^"]*"' log | head -1)"
