#!/bin/bash
# A pair added at the head of the list, whose folder has the same name as an old one
# Report: duplicati/duplicati#2644 and #2986 (a new job of the same name shows the last success of the old one)
. "$(dirname "$0")/lib.sh"
mkdir -p a/data b/data ma st; echo a >a/data/f; echo b >b/data/f
printf '{"state_dir":"%s/st","source_dirs":["%s/a/data"],"dest_dirs":["%s/ma"]}' "$W" "$W" "$W" >c.json; once
[ $code = 0 ] || cannot "the first cycle failed"
printf '{"state_dir":"%s/st","source_dirs":["%s/b/data","%s/a/data"],"dest_dirs":["%s/mb","%s/ma"],"metrics":{"textfile":"%s/x.prom"}}' "$W" "$W" "$W" "$W" "$W" "$W" >c.json; once
last=$(grep '^truecopy_last_success_timestamp_seconds{pair="data"}' x.prom | cut -d' ' -f2)
copied=$(grep '^truecopy_files_copied_total{pair="data"}' x.prom | cut -d' ' -f2)
[ "$last" = 0.0 ] && right "never backed up, and told so"
"$TC" --config c.json status >told 2>/dev/null
wrong "b/data was never copied (its mirror does not exist), but last_success of its pair is $last, files_copied $copied; status: $(grep -o '^data: .*' told | grep -o 'last success.*')"
