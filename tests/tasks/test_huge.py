"""Huge folders: visited in parts, by one process or several; whatever happens, mirror and index end as they should.

What counts as huge is made small here, so that every way into and out of it is gone through quickly and exactly.
"""

import errno
import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from job.adapters.copier import Copier
from job.adapters.index import Index
from job.core import record
from job.core.events import DriftFound, ReplacedByFolder, WorkerLost
from job.core.outcome import Drift, Failure, Result
from job.core.record import FolderDone, FolderSummary, Record
from job.core.rows import decoded
from job.files import crowd, listing
from job.tasks import batch, look, parts, visit
from job.tasks.bench import Bench
from tests.tasks.meddling import failing, meddled
from tests.tasks.workshop import (
    HOUR_NS,
    ListenedMemory,
    Workshop,
    assert_mirrored,
    changed,
    with_memory,
    with_sync,
)

CHUNK = 16
MANY = 100
"""Files of a folder that is huge here: three shares, 32 parts."""


@pytest.fixture(autouse=True)
def huge_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (listing, crowd, look, parts):
        monkeypatch.setattr(module, "CHUNK", CHUNK)
    for module in (listing, crowd):
        monkeypatch.setattr(module, "AT_ONCE", CHUNK // 4)
    monkeypatch.setattr(listing, "SHARE", 3 * CHUNK)
    # Workers go by the real clock, by which everything here is very young.
    monkeypatch.setattr(record, "CLOCK_GRAIN_NS", 0)
    assert threading.active_count() == 1, "workers that are no forks would not know of it"


@pytest.fixture(params=[1, 3], ids=["alone", "with workers"])
def crowd_shop(shop: Workshop, request: pytest.FixtureRequest) -> Workshop:
    """A pair with one huge folder, and others beside, above and below it; nothing is mirrored yet."""
    shop.options |= {"workers": request.param, "workers_from": 0, "audit_interval": "1h"}
    for name in ("beside", "crowd/below/a", "crowd/below/deep/b", "other/c"):
        shop.write(name)
    fill(shop, MANY)
    (shop.source / "crowd" / "link").symlink_to("f-1")
    os.mkfifo(shop.source / "crowd" / "pipe")
    (shop.source / "crowd").chmod(0o750)
    return shop


def fill(shop: Workshop, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        shop.write(f"crowd/f-{number}", f"content {number}")


def thin_out(shop: Workshop, left: int) -> None:
    for number in range(left, MANY):
        (shop.source / "crowd" / f"f-{number}").unlink()


@pytest.fixture
def mirrored(crowd_shop: Workshop) -> Workshop:
    assert crowd_shop.cycle().result is Result.SUCCESS
    return crowd_shop


def summary(shop: Workshop, path: bytes = b"crowd") -> FolderSummary:
    index = Index.open_read_only(str(shop.state))
    assert index is not None
    found = index.summary(path)
    index.close()
    assert found is not None
    return found


def records(shop: Workshop, path: bytes = b"crowd") -> dict[bytes, Record]:
    """Give all records of a folder; none may be in two rows."""
    index = Index.open_read_only(str(shop.state))
    assert index is not None
    found = index.summary(path)
    assert found is not None
    rows = [decoded(index.rows(path, part)) for part in range(found.parts)]
    beyond = [index.rows(path, part) for part in range(found.parts, 4 * found.parts)]
    index.close()
    assert not any(beyond)
    together = {name: record for row in rows for name, record in row.items()}
    assert len(together) == sum(map(len, rows))
    return together


class Listened:
    """A cycle in which the questions to the index are counted."""

    def __init__(self, shop: Workshop) -> None:
        self.memories: list[ListenedMemory] = []
        self.told = shop.cycle(changed(self._listen))

    def _listen(self, bench: Bench) -> Bench:
        self.memories.append(ListenedMemory(bench.memory))
        return replace(bench, memory=self.memories[-1])

    @property
    def asked(self) -> tuple[int, int]:
        """How many rows were read, and how many folders remembered anew."""
        [memory] = self.memories
        return memory.asked["rows"], memory.asked["committed"]


def assert_settled(shop: Workshop) -> None:
    """Insist that mirror and index are as they should be: the next cycle does nothing, audited or not."""
    assert_mirrored(shop)
    assert shop.temps == []
    files = {path.name.encode() for path in (shop.source / "crowd").iterdir() if path.is_symlink() or path.is_file()}
    assert records(shop).keys() == files
    assert summary(shop).entries == len(files) + (shop.source / "crowd" / "pipe").exists()
    assert summary(shop).specials == (shop.source / "crowd" / "pipe").exists()
    for later in (0, 2 * HOUR_NS):
        shop.ahead_ns += later
        again = Listened(shop)
        assert again.asked == (0, 0)
        assert again.told.result is Result.SUCCESS
        assert again.told.copied == {}
        assert again.told.drift == {}


def test_a_huge_folder_is_copied_and_then_left_alone(crowd_shop: Workshop) -> None:
    told = crowd_shop.cycle()

    assert told.result is Result.SUCCESS
    assert (told.tally.copied, told.tally.skipped, told.tally.folders) == (MANY + 5, 1, 5)
    assert told.tally == told.committed
    assert summary(crowd_shop).parts == 32
    assert_settled(crowd_shop)


def test_a_huge_folder_with_little_in_scope_is_left_alone_once_it_is_mirrored(crowd_shop: Workshop) -> None:
    crowd_shop.options["exclude"] = ["crowd/f-?*", "!crowd/f-1*"]

    told = crowd_shop.cycle()

    assert (told.result, told.tally.copied) == (Result.SUCCESS, 16)
    assert Listened(crowd_shop).asked == (0, 0)
    crowd_shop.ahead_ns += 2 * HOUR_NS
    assert Listened(crowd_shop).asked == (0, 0)


def test_one_edit_copies_one_file(mirrored: Workshop) -> None:
    mirrored.write("crowd/f-17", "edited")

    told = mirrored.cycle()

    assert told.copied == {b"crowd/f-17": "size changed"}
    assert told.tally.skipped == MANY + 5
    assert_settled(mirrored)


def test_new_files_come_and_old_ones_stay(mirrored: Workshop) -> None:
    (mirrored.source / "crowd" / "f-3").unlink()
    fill(mirrored, 3, start=MANY)

    told = mirrored.cycle()

    assert set(told.copied) == {b"crowd/f-100", b"crowd/f-101", b"crowd/f-102"}
    assert (mirrored.mirror / "crowd" / "f-3").exists()
    assert_settled(mirrored)


def test_a_folder_that_becomes_huge_is_not_read_anew(crowd_shop: Workshop) -> None:
    thin_out(crowd_shop, left=8)
    crowd_shop.cycle()
    assert summary(crowd_shop).parts == 1
    fill(crowd_shop, MANY - 8, start=8)

    told = crowd_shop.cycle()

    assert told.tally.copied == MANY - 8
    assert summary(crowd_shop).parts == 32
    assert_settled(crowd_shop)


def test_a_huge_folder_that_doubles_has_more_parts_and_reads_nothing_anew(mirrored: Workshop) -> None:
    fill(mirrored, MANY, start=MANY)
    hashed: list[Path] = []

    told = mirrored.cycle(meddled(after_checksum=hashed.append))

    assert told.tally.copied == MANY
    assert hashed == []
    assert summary(mirrored).parts == 64
    assert_settled(mirrored)


def test_a_huge_folder_that_shrinks_a_little_keeps_its_parts(mirrored: Workshop) -> None:
    thin_out(mirrored, left=5)

    told = mirrored.cycle()

    assert (told.tally.copied, told.result) == (0, Result.SUCCESS)
    assert summary(mirrored).parts == 32
    assert_settled(mirrored)


def test_a_huge_folder_that_is_small_on_both_sides_is_ordinary_again(mirrored: Workshop) -> None:
    thin_out(mirrored, left=1)
    (mirrored.source / "crowd" / "link").unlink()
    (mirrored.mirror / "crowd" / "link").unlink()
    for path in (mirrored.mirror / "crowd").glob("f-*"):
        if path.name != "f-0":
            path.unlink()

    told = mirrored.cycle()

    assert (told.tally.copied, told.result) == (0, Result.SUCCESS)
    assert summary(mirrored).parts == 1
    assert_settled(mirrored)


def test_a_small_folder_with_a_huge_mirror_is_not_held_whole_either(mirrored: Workshop) -> None:
    thin_out(mirrored, left=1)
    (mirrored.mirror / "crowd" / ".truecopy-tmp-left").write_text("left")

    told = mirrored.cycle()

    assert (told.tally.copied, told.result) == (0, Result.SUCCESS)
    assert summary(mirrored).parts == 32
    assert len(list((mirrored.mirror / "crowd").iterdir())) == MANY + 2
    assert_settled(mirrored)


def test_a_folder_that_grows_huge_after_the_look_is_copied_with_all_below_it(crowd_shop: Workshop) -> None:
    thin_out(crowd_shop, left=2)
    crowd_shop.options["workers"] = 1

    def grow(_: Path) -> None:
        fill(crowd_shop, MANY, start=2)
        crowd_shop.write("crowd/new/below/x")
        for number in range(MANY):
            crowd_shop.write(f"new/crowd/{number}")

    def once(_: Path, left: list[Callable[[Path], None]] = [grow]) -> None:  # noqa: B006  # emptied by its first call
        if left:
            left.pop()(_)

    told = crowd_shop.cycle(meddled(before_copy=once))
    again = crowd_shop.cycle()

    assert told.result is Result.SUCCESS
    assert {b"crowd/new/below/x", b"crowd/f-50"} <= set(told.copied)
    assert set(told.copied) | set(again.copied) >= {b"new/crowd/50"}
    crowd_shop.cycle()
    assert_settled(crowd_shop)


def test_names_that_vanish_between_the_split_and_their_part_are_nothing(crowd_shop: Workshop) -> None:
    crowd_shop.options["workers"] = 1
    victims = {f"f-{number}" for number in range(MANY)}
    gone: list[str] = []

    def vanish(now: Path) -> None:
        victims.discard(now.name)
        if now.parent.name == "crowd" and len(gone) < 5:
            gone.append(victims.pop())
            (crowd_shop.source / "crowd" / gone[-1]).unlink()

    told = crowd_shop.cycle(meddled(before_copy=vanish))

    assert told.result is Result.SUCCESS
    assert not {f"crowd/{name}".encode() for name in gone} & set(told.copied)
    assert summary(crowd_shop).entries <= MANY + 2 - 4
    crowd_shop.cycle()
    assert_settled(crowd_shop)


def test_drift_in_a_huge_folder_is_found_by_its_stamp_and_healed(mirrored: Workshop) -> None:
    (mirrored.mirror / "crowd" / "f-7").unlink()

    told = mirrored.cycle()

    assert told.drift == {Drift.MISSING: 1}
    assert set(told.copied) == {b"crowd/f-7"}
    assert_settled(mirrored)


def test_drift_in_place_is_found_by_the_audit_and_healed(mirrored: Workshop) -> None:
    (mirrored.mirror / "crowd" / "f-7").write_text("other content")
    assert mirrored.cycle().drift == {}
    mirrored.ahead_ns += 2 * HOUR_NS

    told = mirrored.cycle()

    assert told.drift == {Drift.CONTENT: 1}
    assert [event.path for event in told.of(DriftFound)] == [b"crowd/f-7"]
    assert_settled(mirrored)


def test_what_is_changed_in_the_mirror_behind_a_finished_part_is_seen_by_the_audit(crowd_shop: Workshop) -> None:
    crowd_shop.options["workers"] = 1
    tampered: list[str] = []

    def tamper(folders: list[FolderDone]) -> None:
        done = sorted((crowd_shop.mirror / "crowd").glob("f-*"))
        if not folders and done and not tampered:
            tampered.append(done[0].name)
            done[0].write_text("tampered")

    crowd_shop.cycle(with_memory(tamper))
    assert tampered
    crowd_shop.ahead_ns += 2 * HOUR_NS

    told = crowd_shop.cycle()

    assert told.drift == {Drift.CONTENT: 1}
    assert_settled(crowd_shop)


def test_a_file_that_fails_in_a_part_is_told_and_tried_again(crowd_shop: Workshop) -> None:
    crowd_shop.write("crowd/.truecopy-tmp-mine")

    told = crowd_shop.cycle()

    assert told.result is Result.PARTIAL
    assert told.failed == {b"crowd/.truecopy-tmp-mine": Failure.RESERVED_NAME}
    assert told.tally.copied == MANY + 5
    assert summary(crowd_shop).fingerprint == b""
    (crowd_shop.source / "crowd" / ".truecopy-tmp-mine").unlink()
    assert crowd_shop.cycle().copied == {}
    assert_settled(crowd_shop)


def test_a_mirror_file_in_the_way_of_a_huge_folder_gives_way_to_it(crowd_shop: Workshop) -> None:
    (crowd_shop.mirror / "crowd").write_text("in the way")

    told = crowd_shop.cycle()

    assert told.result is Result.SUCCESS
    assert [event.path for event in told.of(ReplacedByFolder)] == [b"crowd"]
    assert_settled(crowd_shop)


def test_a_plan_goes_through_a_huge_folder_in_parts_and_says_what_will_be_done(mirrored: Workshop) -> None:
    (mirrored.mirror / "crowd" / "f-8").unlink()
    mirrored.write("crowd/f-9", "edited")
    fill(mirrored, 1, start=MANY)

    plan = mirrored.plan()

    assert {line.path: line.reason for line in plan} == mirrored.cycle().copied
    assert mirrored.plan() == []


def test_a_plan_of_a_huge_folder_that_is_new_names_everything(crowd_shop: Workshop) -> None:
    plan = {line.path for line in crowd_shop.plan() if line.action == "copy"}

    assert plan == set(crowd_shop.cycle().copied)


def test_a_stop_in_a_huge_folder_loses_little_and_what_was_done_is_not_read_anew(
    crowd_shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd_shop.options["workers"] = 1
    monkeypatch.setattr(batch, "MOST_ENTRIES", 8)
    copied: list[Path] = []

    told = crowd_shop.cycle(meddled(before_copy=copied.append), stop=lambda: len(copied) > MANY // 2)
    hashed: list[Path] = []
    rest = crowd_shop.cycle(meddled(after_checksum=hashed.append))

    assert told.result is Result.STOPPED
    assert 0 < told.tally.copied < MANY
    assert (rest.result, hashed) == (Result.SUCCESS, [])
    assert told.tally.copied + rest.tally.copied == MANY + 5
    assert_settled(crowd_shop)


def test_a_part_that_the_disk_did_not_take_is_done_again(crowd_shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd_shop.options["workers"] = 1
    monkeypatch.setattr(batch, "MOST_ENTRIES", 8)

    told = crowd_shop.cycle(with_sync(failing(7)))

    assert told.result is Result.PARTIAL
    assert set(told.failed.values()) == {Failure.SYNC}
    assert summary(crowd_shop).fingerprint == b""
    again = crowd_shop.cycle()
    assert again.result is Result.SUCCESS
    assert again.tally.copied < MANY // 2
    assert_settled(crowd_shop)


def test_an_index_that_cannot_be_written_for_a_part_makes_its_files_fail(
    crowd_shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd_shop.options["workers"] = 1
    monkeypatch.setattr(batch, "MOST_ENTRIES", 8)
    full = failing(6, error=errno.ENOSPC)

    told = crowd_shop.cycle(with_memory(lambda _: full()))

    assert told.result is Result.PARTIAL
    assert set(told.failed.values()) == {Failure.NO_SPACE}
    assert summary(crowd_shop).fingerprint == b""
    assert crowd_shop.cycle().copied == {}
    assert_settled(crowd_shop)


@pytest.mark.parametrize("number", [1, 3, 500])
def test_an_index_that_is_wrong_about_parts_costs_time_only(mirrored: Workshop, number: int) -> None:
    with closing(sqlite3.connect(mirrored.state / "index.sqlite3")) as raw:
        raw.execute("UPDATE folder SET parts = ? WHERE path = ?", (number, b"crowd"))
        raw.execute("DELETE FROM records WHERE part % 5 = 0")
        raw.commit()
    mirrored.write("crowd/f-9", "edited")

    told = mirrored.cycle()

    assert (told.result, told.drift) == (Result.SUCCESS, {})
    assert told.copied.keys() == {b"crowd/f-9"}
    assert_settled(mirrored)


@pytest.mark.parametrize("victim", ["copy", "split", "close"])
def test_a_worker_lost_in_a_huge_folder_loses_only_its_part(
    crowd_shop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, victim: str
) -> None:
    crowd_shop.options["workers"] = 3
    main, alive = os.getpid(), tmp_path / "alive"
    alive.touch()

    def lethal(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            done = real(*arguments, **options)
            listed = getattr(arguments[1], "name", b"") if victim == "copy" else b"f-50"
            if os.getpid() != main and listed == b"f-50" and alive.exists():
                alive.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return call

    owner, name = {"copy": (Copier, "copy"), "split": (visit, "heaps"), "close": (visit, "finish_whole")}[victim]
    monkeypatch.setattr(owner, name, lethal(getattr(owner, name)))

    told = crowd_shop.cycle()

    assert len(told.of(WorkerLost)) == 1
    assert told.result is Result.PARTIAL
    assert told.failed[b"crowd"] is Failure.WORKER_LOST
    again = crowd_shop.cycle()
    assert again.result is Result.SUCCESS
    assert again.tally.copied < MANY // 2 or victim == "split"
    assert_settled(crowd_shop)
