#!/bin/bash
# A btrfs subvolume in the source, on which nothing is mounted
# Report: borgbackup/borg#4009 and #1987, restic/restic#2109
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] && command -v mkfs.btrfs btrfs >/dev/null || cannot "needs root and btrfs-progs"
truncate -s 200M disk; mkfs.btrfs -q disk >/dev/null 2>&1; mount -o loop disk s 2>/dev/null || cannot "no btrfs in this kernel"; MOUNTS+=("$W/s")
btrfs subvolume create s/photos >/dev/null; mkdir s/docs; echo p >s/photos/p; echo d >s/docs/d
config '"error_log_file":"errors.log"'; once
[ -e m/photos/p ] && right "it is copied"
"$TC" --config c.json compare >compared 2>&1; differs=$?
"$TC" --config c.json status >told 2>&1
[ $code = 0 ] && [ ! -s errors.log ] && wrong "exit 0, no warning, photos/p is not in the mirror; compare ends $differs ($(tail -1 compared)); status names it $(grep -c photos told) times; the log says 'another file system is mounted there': $(grep -c 'is mounted there' log)"
right "told"
