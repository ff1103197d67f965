#!/bin/bash
# An extended attribute of 20 kB that ext4 refuses with "no space left"
# Report: borgbackup/borg#3808, iustin/pyxattr#23
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] && command -v mkfs.xfs mkfs.ext4 >/dev/null || cannot "needs root, xfsprogs, e2fsprogs"
truncate -s 400M x.img; mkfs.xfs -q x.img; mount -o loop x.img s 2>/dev/null || cannot "no XFS"; MOUNTS+=("$W/s")
truncate -s 60M e.img; mkfs.ext4 -q e.img; mount -o loop e.img m 2>/dev/null || cannot "no ext4"; MOUNTS+=("$W/m")
echo data >s/f; python3 -c "import os; os.setxattr('s/f', 'user.big', os.urandom(20000))"; config; once
[ $code = 0 ] && [ -e m/f ] && grep -q metadata_not_kept log && right "content copied, the loss told, exit 0"
wrong "exit $code: $(grep -o '"message": "Failed[^"]*"' log | head -1)"
