#!/bin/bash
# As root: another user has put a link in the place of the mirror's root. rsync 3.5.0 refuses a link it would follow there that is neither root's nor its own;
# root's own link (/backup -> /mnt/disk) goes on working.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || cannot "needs root"
mkdir outside open st real; chmod 1777 open; echo x >s/f
run() { printf '{"run_enabled":"Y","state_dir":"%s","pairs":[{"name":"p","source":"%s","dest":"%s"}]}' "$W/st" "$W/s" "$1" >c.json; "$TC" --config c.json run --once >log 2>&1; echo "ended $?"; }
ln -s "$W/outside" open/m; chown -h 65534:65534 open/m
run "$W/open/m"; bad=0; [ -e outside/f ] && { echo "written through another user's link: $(find outside -mindepth 1 | tr '\n' ' ')"; bad=1; }
ln -s "$W/real" own; run "$W/own"; [ -e real/f ] || { echo "the operator's own link was not followed"; bad=1; }
exit $bad
