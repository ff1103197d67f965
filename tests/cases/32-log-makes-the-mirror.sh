#!/bin/bash
# log_file lies in the mirror (or source), whose disk is not mounted and whose folder is missing
# Report: NethServer/nethsecurity#1746, bit-team/backintime#147
. "$(dirname "$0")/lib.sh"
echo x >s/f; rmdir m; config "\"log_file\":\"$W/m/backup.log\""; once
[ $code = 0 ] && [ -e m/f ] && made="the missing mirror was made by the log and everything copied into it (exit 0);"
rm -rf s m; mkdir m; echo old >m/f; config "\"log_file\":\"$W/s/backup.log\""; once
[ $code = 0 ] && made="${made:-} a missing source was made by the log and the cycle is a success (exit 0)"
[ "${made:-}" ] && wrong "$made"
right "refused (exit $code)"
