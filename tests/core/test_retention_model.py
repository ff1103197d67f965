"""Retention against a naive model: one path through random cycles, with a clock that may jump to any time and back."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from job.core.retention import FLOOR, Keep, KeepCounts, KeepFor, Retention, doubt_clock, next_due
from job.core.versions import Moment

DAY = 86400
START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
YEARS = 3651 * DAY
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Kiritimati", "Etc/GMT+12")


class Step(NamedTuple):
    """One cycle: how far the clock went since the last one, and what happened in the source meanwhile."""

    seconds: int
    change: str


steps = st.builds(
    Step,
    st.one_of(
        st.integers(1, 3600),
        st.integers(3600, 3 * DAY),
        st.integers(20 * DAY, 90 * DAY),
        st.just(YEARS),
        st.just(-YEARS),
    ),
    st.sampled_from(["write", "write", "remove", "nothing"]),
)
counts = st.builds(KeepCounts, *[st.integers(0, 5)] * 4)
keeps = st.one_of(st.integers(0, 60 * DAY).map(KeepFor), counts)


class History:
    """A path of a mirror in which removed entries become versions."""

    def __init__(self, keep: Keep, zone: str) -> None:
        self.keep, self.zone = keep, ZoneInfo(zone)
        self.now = START
        self.last: float | None = None
        self.held: int | None = None
        self.written = 0
        self.folders: list[Moment] = []
        """In the order of cycles."""
        self.versions: dict[Moment, int] = {}
        self.newest: int | None = None
        """The content that was replaced or removed last."""

    def cycle(self, step: Step) -> None:
        self.now += step.seconds
        if step.change != "nothing" and self.held is not None:
            moment = next(
                free for number in range(1, 10**6) if (free := Moment(self.now, number)) not in {*self.folders}
            )
            self.folders.append(moment)
            self.versions[moment] = self.newest = self.held
        if step.change == "remove":
            self.held = None
        elif step.change == "write":
            self.written += 1
            self.held = self.written
        if doubt_clock(self.now, self.last, DAY, None) is None:
            self.expire()
        self.last = self.now

    def expire(self) -> None:
        found = self.retention(self.now).fates([*self.versions], held=self.held is not None)
        self.versions = {moment: self.versions[moment] for moment, fate in found.items() if not fate.expires}
        self.folders = [moment for moment in self.folders if moment in self.versions]

    def retention(self, now: float) -> Retention:
        return Retention(self.keep, self.folders, now, self.zone)


def lived(keep: Keep, zone: str, cycles: Sequence[Step]) -> History:
    history = History(keep, zone)
    for step in cycles:
        history.cycle(step)
    return history


@given(keeps, st.sampled_from(ZONES), st.lists(steps, max_size=40))
def test_the_newest_version_of_a_removed_file_is_never_lost_whatever_the_clock_does(
    keep: Keep, zone: str, cycles: list[Step]
) -> None:
    history = History(keep, zone)
    for step in cycles:
        history.cycle(step)

        if history.held is None and history.newest is not None:
            assert history.newest in history.versions.values()


@given(keeps, st.sampled_from(ZONES), st.lists(steps, max_size=40))
def test_a_floor_of_folders_always_stays(keep: Keep, zone: str, cycles: list[Step]) -> None:
    history = lived(keep, zone, cycles)
    before = [moment for moment in history.folders if moment.seconds <= history.now]

    history.expire()

    assert len([moment for moment in history.versions if moment.seconds <= history.now]) >= min(FLOOR, len(before))


@given(keeps, st.sampled_from(ZONES), st.lists(steps, max_size=40))
def test_what_stayed_stays_when_it_is_judged_again_at_once(keep: Keep, zone: str, cycles: list[Step]) -> None:
    history = lived(keep, zone, cycles)
    history.expire()
    before = dict(history.versions)

    history.expire()

    assert history.versions == before


@given(keeps, st.sampled_from(ZONES), st.lists(steps, max_size=40), st.floats(0, 1, exclude_max=True))
def test_nothing_expires_before_the_next_expiry_is_due(keep: Keep, zone: str, cycles: list[Step], share: float) -> None:
    history = lived(keep, zone, cycles)
    history.expire()
    due = min(next_due(keep, history.folders, history.now), history.now + YEARS)
    before = dict(history.versions)

    history.now += int(share * (due - history.now))
    history.expire()

    assert history.versions == before


forward = st.builds(Step, st.integers(60, 2 * DAY), st.sampled_from(["write", "write", "nothing"]))


@given(st.integers(DAY, 40 * DAY), st.lists(forward, max_size=60))
def test_every_content_of_the_time_that_is_kept_can_be_restored(seconds: int, cycles: list[Step]) -> None:
    history = History(KeepFor(seconds), "UTC")
    replaced: list[tuple[int, int]] = []
    for step in cycles:
        before = history.held
        history.cycle(step)
        if before is not None and history.held != before:
            replaced.append((history.now, before))

    for until, content in replaced:
        if history.now - until <= seconds:
            assert content in history.versions.values()


@given(st.integers(1, 20), st.sampled_from(ZONES), st.lists(forward, max_size=60))
def test_what_stood_at_the_beginning_of_each_counted_day_can_be_restored(
    days: int, zone: str, cycles: list[Step]
) -> None:
    history = History(KeepCounts(daily=days), zone)
    stood: list[tuple[int, int, int]] = []
    since = START
    for step in cycles:
        before = history.held
        history.cycle(step)
        if before is not None and history.held != before:
            stood.append((since, history.now, before))
        if history.held != before:
            since = history.now

    there = ZoneInfo(zone)
    last = datetime.fromtimestamp(history.now, there).replace(hour=0, minute=0, second=0)
    for number in range(days):
        midnight = (last - timedelta(days=number)).timestamp()
        for born, until, content in stood:
            if born <= midnight < until:
                assert content in history.versions.values()
