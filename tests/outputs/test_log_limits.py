"""A log with so many lines of a kind for a folder and a cycle only; what is left out is counted by reason."""

from typing import Any

import pytest

from job.core.counts import Tally
from job.core.entry import Kind
from job.core.outcome import Drift, Failure, Result, UnloggedReason
from job.events.base import Event
from job.events.pair import DriftFound, FileCopied, FileFailed, LogLinesSuppressed, OwnFilesSkipped, PairFinished
from job.events.service import CycleFinished, CycleStarted
from job.outputs import log_limits
from job.outputs.log_limits import MOST_A_CYCLE, MOST_A_FOLDER, BriefLog


class Teller:
    """Tells cycles to a brief log, and holds what comes out of it."""

    def __init__(self, *, level: str = "info", interval: float = 3600.0) -> None:
        self.out: list[Event] = []
        self.now = 0.0
        self.tell = BriefLog(lambda event, _=None: self.out.append(event), monotonic=lambda: self.now)
        self.tell.configure(level=level, interval_seconds=interval)

    def cycle(self, *events: Event, pair: str = "p") -> "Teller":
        self.out.clear()
        self.tell(CycleStarted(cycle_id="c", pairs=(pair,)))
        for event in events:
            self.tell(event)
        done: dict[str, Any] = {"result": Result.PARTIAL, "tally": Tally(), "duration_seconds": 1.0}
        self.tell(PairFinished(cycle_id="c", pair=pair, finished_timestamp_seconds=1.0, **done))
        self.tell(CycleFinished(cycle_id="c", **done))
        self.now += 30
        return self

    def lines(self, kind: type[Event]) -> int:
        return sum(1 for event in self.out if type(event) is kind)

    @property
    def sums(self) -> list[tuple[str, bytes, int, dict[str, int], UnloggedReason]]:
        return [
            (each.of, each.path, each.entries, each.by, each.because)
            for each in self.out
            if isinstance(each, LogLinesSuppressed)
        ]


def failed(path: bytes, reason: Failure = Failure.PERMISSION, error: str = "no") -> FileFailed:
    return FileFailed(cycle_id="c", pair="p", path=path, kind=Kind.FILE, reason=reason, error=error)


def copied(path: bytes) -> FileCopied:
    return FileCopied(
        cycle_id="c", pair="p", path=path, kind=Kind.FILE, bytes=1, checksum="sha256:0", permissions="644",
        reason="new", duration_seconds=0.0,
    )  # fmt: skip


def test_failures_of_a_folder_are_counted_by_reason_after_a_hundred() -> None:
    told = Teller().cycle(
        *(failed(b"a/%d" % number) for number in range(MOST_A_FOLDER)),
        *(failed(b"a/x%d" % number, Failure.NAME) for number in range(3)),
        failed(b"a/y"),
        failed(b"a/b/z"),
    )

    assert told.lines(FileFailed) == MOST_A_FOLDER + 1
    assert told.sums == [("file_failed", b"a", 4, {"name": 3, "permission": 1}, UnloggedReason.FOLDER)]
    assert [type(event) for event in told.out[-3:]] == [LogLinesSuppressed, PairFinished, CycleFinished]


def test_each_copy_has_its_line() -> None:
    told = Teller().cycle(*(copied(b"a/%d" % number) for number in range(5 * MOST_A_CYCLE)))

    assert told.lines(FileCopied) == 5 * MOST_A_CYCLE
    assert told.sums == []


def test_failures_in_many_folders_are_counted_after_a_thousand() -> None:
    told = Teller().cycle(*(failed(b"%d/f" % number) for number in range(MOST_A_CYCLE + 7)))

    assert told.lines(FileFailed) == MOST_A_CYCLE
    assert told.sums == [("file_failed", b"", 7, {"permission": 7}, UnloggedReason.CYCLE)]


@pytest.mark.parametrize("kind", [DriftFound, OwnFilesSkipped])
def test_other_kinds_of_what_did_not_happen_are_counted_too(kind: type[Event]) -> None:
    more: dict[str, Any] = {"kind": Drift.CONTENT} if kind is DriftFound else {}
    events = [kind(cycle_id="c", pair="p", path=b"%d" % number, **more) for number in range(MOST_A_FOLDER + 2)]

    told = Teller().cycle(*events)

    assert told.lines(kind) == MOST_A_FOLDER
    assert [(of, path, entries) for of, path, entries, _, _ in told.sums] == [(kind.name, b"", 2)]


def test_kinds_and_cycles_are_counted_apart() -> None:
    many = [failed(b"%d" % number) for number in range(MOST_A_FOLDER)]
    drift = DriftFound(cycle_id="c", pair="p", path=b"x", kind=Drift.MISSING)
    teller = Teller(interval=0)

    for _ in range(2):
        assert teller.cycle(*many, drift).sums == []
        assert (teller.lines(FileFailed), teller.lines(DriftFound)) == (MOST_A_FOLDER, 1)


def test_what_fails_as_before_is_counted_and_logged_again_after_the_interval() -> None:
    teller = Teller(interval=100)
    fails = [failed(b"a/1"), failed(b"b/2", Failure.NAME)]

    shown = [(teller.cycle(*fails).lines(FileFailed), teller.sums) for _ in range(5)]

    as_before = [("file_failed", b"", 2, {"permission": 1, "name": 1}, UnloggedReason.AS_BEFORE)]
    assert shown == [(2, []), (0, as_before), (0, as_before), (0, as_before), (2, [])]


def test_what_fails_in_another_way_or_anew_has_its_line() -> None:
    teller = Teller()
    teller.cycle(failed(b"a/1"), failed(b"a/2"), failed(b"a/3"))
    teller.cycle(failed(b"a/1", Failure.IO_ERROR), failed(b"a/2", error="otherwise"))

    assert (teller.lines(FileFailed), teller.sums) == (2, [])
    assert teller.cycle(failed(b"a/3")).lines(FileFailed) == 1


def test_of_too_many_failures_each_has_its_line_in_one_of_the_cycles() -> None:
    teller, seen = Teller(), set[bytes]()
    many = [failed(b"a/%d" % number) for number in range(3 * MOST_A_FOLDER)]

    for _ in range(3):
        teller.cycle(*many)
        seen |= {event.path for event in teller.out if isinstance(event, FileFailed)}

    assert seen == {event.path for event in many}


def test_at_level_debug_everything_has_its_line() -> None:
    teller = Teller(level="debug")

    for _ in range(2):
        teller.cycle(*(failed(b"%d" % number) for number in range(MOST_A_CYCLE + 50)))
        assert (teller.lines(FileFailed), teller.sums) == (MOST_A_CYCLE + 50, [])


def test_a_folder_is_summed_up_when_many_others_came_since(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_limits, "MOST_FOLDERS", 4)
    first = [failed(b"a/%d" % number) for number in range(MOST_A_FOLDER + 5)]

    told = Teller().cycle(*first, *(failed(b"%d/f" % number) for number in range(8)))

    assert told.sums == [("file_failed", b"a", 5, {"permission": 5}, UnloggedReason.FOLDER)]
    assert type(told.out[-3]) is not LogLinesSuppressed
