"""What is passed over without a look at each file, and what an audit sees besides."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from job.core.outcome import Drift, Failure, Result
from job.engine.context import PairContext
from job.events.pair import DriftFound, PairStarted
from tests.engine.workshop import HOUR_NS, ListenedIndex, Told, Workshop, assert_mirrored, changed

SEVERAL = ("a", "one/b", "one/two/c", "three/d")


class Counted:
    """A cycle in which the questions to the index are counted."""

    def __init__(self, shop: Workshop) -> None:
        self.indexes: list[ListenedIndex] = []
        self.told = shop.cycle(changed(self._count))

    def _count(self, context: PairContext) -> PairContext:
        self.indexes.append(ListenedIndex(context.index))
        return replace(context, index=self.indexes[-1])

    @property
    def visited(self) -> int:
        """How many folders had their records read; only those of them that changed are remembered anew."""
        [index] = self.indexes
        assert index.asked["rows"] >= index.asked["committed"]
        return index.asked["rows"]


@pytest.fixture
def mirrored(shop: Workshop) -> Workshop:
    """A pair that was just mirrored, with audits only when they are due."""
    shop.options["audit_interval"] = "1h"
    for name in SEVERAL:
        shop.write(name)
    assert shop.cycle().result is Result.SUCCESS
    return shop


def test_unchanged_folders_are_passed_over_by_their_summaries_alone(mirrored: Workshop) -> None:
    counted = Counted(mirrored)

    assert counted.visited == 0
    assert counted.told.tally.skipped == 4


def test_only_the_folder_that_changed_is_visited(mirrored: Workshop) -> None:
    mirrored.write("one/new")

    counted = Counted(mirrored)

    assert counted.visited == 1
    assert set(counted.told.copied) == {b"one/new"}
    assert counted.told.tally.skipped == 4


def test_an_audit_passes_over_what_is_as_it_was_left(mirrored: Workshop) -> None:
    mirrored.ahead_ns += 2 * HOUR_NS

    counted = Counted(mirrored)

    assert counted.told.of(PairStarted)[0].audit
    assert counted.visited == 0


def test_an_audit_is_due_when_the_last_is_old_enough(mirrored: Workshop) -> None:
    audits = []
    for hours in (0.5, 0.4, 0.2, 0.2):
        mirrored.ahead_ns += int(hours * HOUR_NS)
        audits.append(mirrored.cycle().of(PairStarted)[0].audit)

    assert audits == [False, False, True, False]


def test_a_clock_that_was_set_back_does_not_put_audits_off(mirrored: Workshop) -> None:
    mirrored.ahead_ns -= 1000 * HOUR_NS

    assert mirrored.cycle().of(PairStarted)[0].audit


def edit_in_place(path: Path) -> None:
    before = path.stat()
    with path.open("r+") as file:
        file.write("C")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_edit_in_the_mirror_that_hides_itself_is_found_by_the_audit(mirrored: Workshop) -> None:
    edit_in_place(mirrored.mirror / "one/b")
    before = mirrored.cycle()
    mirrored.ahead_ns += 2 * HOUR_NS

    told = mirrored.cycle()

    assert before.drift == {}
    assert [(event.path, event.kind) for event in told.of(DriftFound)] == [(b"one/b", Drift.CONTENT)]
    assert told.result is Result.SUCCESS
    assert_mirrored(mirrored)


def remove(path: Path) -> None:
    path.unlink()


def replace_by_another(path: Path) -> None:
    path.with_name("other").write_text("strange")
    path.with_name("other").rename(path)


def replace_by_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def replace_by_an_empty_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (remove, Drift.MISSING),
        (replace_by_another, Drift.REPLACED),
        (replace_by_a_link, Drift.REPLACED),
        (replace_by_an_empty_folder, Drift.REPLACED),
    ],
)
def test_a_name_that_changed_in_the_mirror_is_found_without_an_audit(
    mirrored: Workshop, change: object, kind: Drift
) -> None:
    assert callable(change)
    change(mirrored.mirror / "one/b")

    told = mirrored.cycle()

    assert [(event.path, event.kind) for event in told.of(DriftFound)] == [(b"one/b", kind)]
    assert told.drift == {kind: 1}
    assert_mirrored(mirrored)
    assert mirrored.cycle().drift == {}


def test_changed_metadata_in_the_mirror_is_drift_and_mended_without_copying(mirrored: Workshop) -> None:
    (mirrored.mirror / "one/b").chmod(0o777)
    mirrored.ahead_ns += 2 * HOUR_NS

    told = mirrored.cycle()

    assert told.drift == {Drift.METADATA: 1}
    assert (told.tally.updated, told.tally.copied) == (1, 0)
    assert_mirrored(mirrored)


def test_a_folder_missing_in_the_mirror_comes_back_with_everything_below(mirrored: Workshop) -> None:
    for name in ("one/two/c", "one/b"):
        (mirrored.mirror / name).unlink()
    (mirrored.mirror / "one/two").rmdir()
    (mirrored.mirror / "one").rmdir()

    told = mirrored.cycle()

    assert told.drift == {Drift.MISSING: 2}
    assert_mirrored(mirrored)


def test_a_strangers_file_in_the_mirror_is_left_alone_and_no_drift(mirrored: Workshop) -> None:
    (mirrored.mirror / "one/stranger").write_text("mine")

    told = mirrored.cycle()

    assert told.drift == {}
    assert (mirrored.mirror / "one/stranger").read_text() == "mine"
    assert Counted(mirrored).visited == 0


def test_comparing_by_checksum_believes_nothing(mirrored: Workshop) -> None:
    mirrored.options["compare"] = "checksum"
    edit_in_place(mirrored.mirror / "a")

    told = mirrored.cycle()

    assert told.drift == {Drift.CONTENT: 1}
    assert set(told.copied) == {b"a"}
    assert told.tally.skipped == 3


def test_a_folder_with_a_failure_is_visited_until_it_is_mended(shop: Workshop) -> None:
    reserved = shop.write("one/.truecopy-tmp-mine")
    shop.write("two/file")
    failures = [Counted(shop).told.failed for _ in range(2)]
    visited = Counted(shop).visited
    reserved.unlink()

    told = shop.cycle()

    assert failures == [{b"one/.truecopy-tmp-mine": Failure.RESERVED_NAME}] * 2
    assert visited == 1
    assert told.result is Result.SUCCESS


def test_another_set_of_patterns_has_everything_looked_at_again(mirrored: Workshop) -> None:
    mirrored.options["exclude"] = ["three/"]

    told: Told = mirrored.cycle()

    assert told.result is Result.SUCCESS
    assert told.tally.entries == 3
    assert (mirrored.mirror / "three/d").exists()


def test_an_index_that_lies_about_counts_is_not_asked_twice(mirrored: Workshop) -> None:
    (mirrored.state / "index.sqlite3").unlink()

    told = mirrored.cycle()

    assert told.tally.copied == 0
    assert told.tally.skipped == 4
    assert told.result is Result.SUCCESS
