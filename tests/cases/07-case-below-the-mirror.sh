#!/bin/bash
# An exFAT disk mounted in a folder of an ext4 mirror; two names that differ in case
# Report: syncthing/syncthing#1787 and #2907
. "$(dirname "$0")/lib.sh"
mkdir -p s/usb m/usb; echo upper >s/usb/Report.txt; echo lower >s/usb/report.txt
fuse "$W/m/usb" fold fat
config; told=""
for i in 1 2 3; do once; told="$told exit $code with $(ls m/usb | tr '\n' ' '),"; [ $code = 0 ] && lost=1; done
[ "${lost:-}" ] && wrong "one of two files is always missing, they replace each other in each cycle, and it is called a success:$told"
right "told:$told"
