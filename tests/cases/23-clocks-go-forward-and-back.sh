#!/bin/bash
# daily at 02:30 on the nights on which the clocks are moved
# Report: vatesfr/xen-orchestra#4024, kelektiv/node-cron#563, duplicati/duplicati#1364
. "$(dirname "$0")/lib.sh"
python=$(head -1 "$TC" | sed 's/^#!//'); [ -x "$python" ] || cannot "no interpreter found"
"$python" - <<'PYTHON' && right "once on each of both nights" || wrong "twice or never"
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo
from job.core.timing import parse_schedule
zone, daily = ZoneInfo("Europe/Berlin"), parse_schedule("daily at 02:30")
for first in (datetime(2026, 3, 28, tzinfo=zone), datetime(2026, 10, 24, tzinfo=zone)):
    at, days = first.astimezone(UTC), []
    for _ in range(4):
        at = daily.next_due(at, zone); days.append(at.astimezone(zone).date())
    assert days == [first.date() + timedelta(days=n) for n in range(4)], days
PYTHON
