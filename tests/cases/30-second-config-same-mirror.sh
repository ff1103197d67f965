#!/bin/bash
# Two containers with a config of their own have the same mirror by mistake
# Report: duplicati/duplicati#1656 and #3845
. "$(dirname "$0")/lib.sh"
mkdir s2; echo 'of the first' >s/same; echo 'of the second' >s2/same; config; once
printf '{"source_dirs":["%s/s2"],"dest_dirs":["%s/m"],"error_log_file":"errors.log"}' "$W" "$W" >c.json; once
[ $code = 0 ] && [ "$(cat m/same)" = "of the second" ] && [ ! -s errors.log ] &&
  wrong "the only copy of the first's file is overwritten, exit 0, no warning, though .truecopy/README.txt in the mirror names another source"
right "told or refused (exit $code)"
