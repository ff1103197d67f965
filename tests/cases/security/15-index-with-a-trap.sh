#!/bin/bash
# README 13: an index that was tampered with "is made anew, or refused". One of the right application_id and format whose table
# is a view that never ends, or has a trigger (a stick that was in other hands): schema is not looked at.
. "$(dirname "$0")/lib.sh"
mkdir "$W/s" "$W/m"; echo one >"$W/s/f"; chmod 755 "$W/s" "$W/m"; conf "$W/s" "$W/m"; once; [ $rc = 0 ] || cannot "first run"
sql() { "$PY" - "$W/m/.truecopy/index.sqlite3" "$1" <<'P'
import sqlite3,sys
d=sqlite3.connect(sys.argv[1],isolation_level=None); d.executescript(sys.argv[2]); d.close()
P
}
cp "$W/m/.truecopy/index.sqlite3" "$W/keep"; wrong=
echo two >"$W/s/g"
sleep 2.1 # what is younger than the grain of a clock is looked at again by the next cycle, trap or no trap
sql "CREATE TRIGGER t BEFORE INSERT ON folder BEGIN SELECT RAISE(IGNORE); END; CREATE TRIGGER u BEFORE INSERT ON records BEGIN SELECT RAISE(IGNORE); END;"
once; a=$rc; once; b=$rc; echo "trigger that drops what is stored: exits $a and $b; told: $(grep -c 'index' "$W/out")"
"$TC" --config "$W/c.json" plan >"$W/plan" 2>&1; grep -q "compare\|copy" "$W/plan" && { echo "  after two runs: $(tail -2 "$W/plan" | tr '\n' ' ')"; wrong="$wrong trigger"; }
cp "$W/keep" "$W/m/.truecopy/index.sqlite3"
sql "CREATE TABLE victim AS SELECT * FROM folder; DROP TABLE folder; CREATE VIEW folder AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT x'' AS path, x'' AS fingerprint, x'' AS stamp, x'' AS mirror_fingerprint, x AS entries, 0 AS specials, 0 AS recheck, 1 AS parts FROM c WHERE x<0;"
timeout 20 "$TC" --config "$W/c.json" run --once >"$W/out" 2>"$W/err"; c=$?; echo "view without an end: exit $c (124: still at it after 20 s)"; tail -1 "$W/out" | cut -c1-200
[ $c = 124 ] && wrong="$wrong view"
[ -n "$wrong" ] && bad "believed:$wrong"
good "made anew or refused"
