#!/bin/bash
# Names that end in dots, on exFAT as the kernel has it
# Report: jb2170/better-adb-sync#14
. "$(dirname "$0")/lib.sh"
fuse "$W/m" dots fat
echo one >"s/Best of..."; echo two >"s/Best of"; mkdir s/Etc.; echo x >s/Etc./y; config; once
[ $code = 3 ] && grep -q 'holds no names that end with a dot' log && [ "$(cat 'm/Best of')" = two ] && right "named as failures with the reason, nothing overwritten (exit 3)"
wrong "exit $code, mirror: $(ls m | tr '\n' '|')"
