#!/bin/bash
# A second file system mounted in a folder of the mirror: is it synced before success is told
# Report: ostreedev/ostree#3504 (syncfs of the wrong file system), backuppc/backuppc#459 (child data sets)
. "$(dirname "$0")/lib.sh"
mkdir -p s/photos m/photos; echo p >s/photos/p
fuse "$W/m/photos" "log=$W/syncs"
config; once
[ $code = 0 ] && [ -e m/photos/p ] || cannot "it was not copied"
[ -s syncs ] && right "$(wc -l <syncs) syncs arrived there"
wrong "exit 0 and 'copied', but no fsync or syncfs ever reached the file system that photos/p lies on (on ext4 and XFS it is gone after a power cut: LOG.md)"
