"""Listings that cannot be believed: empty the second time, or without names that are there all the same."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from job.core.outcome import Failure, Refusal, Result
from job.events.pair import MirrorProbed, PairRefused
from job.store.temp_journal import TempJournal
from tests.engine.hiding_fs import hiding_fs
from tests.engine.test_tree_compare import told
from tests.engine.workshop import Workshop, assert_mirrored
from tests.faults.rig import ROOT
from tests.fidelity.foreign import NAS

pytestmark = [*NAS, pytest.mark.needs_root]


@contextmanager
def index(at: Path, *natures: str) -> Iterator[None]:
    """Mount the file system of the user cases."""
    subprocess.run([sys.executable, str(ROOT / "tests/cases/memfs.py"), str(at), *natures], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


def fill(shop: Workshop) -> None:
    for name in ("top", "one/a", "one/b", "one/deep/c", "two/d"):
        shop.write(name, name)


def test_a_source_that_lists_each_open_folder_once_is_copied_whole(shop: Workshop) -> None:
    with index(shop.source, "once"):
        fill(shop)

        first = shop.cycle()
        shop.write("one/new")
        second, third = shop.cycle(), shop.cycle()

        assert (first.result, second.result, third.result) == (Result.SUCCESS,) * 3
        assert len(first.copied) == 5
        assert set(second.copied) == {b"one/new"}
        assert not third.copied
        assert told(shop) == {}
        assert {step.path for step in shop.plan()} == set()
        assert_mirrored(shop)


def test_a_mirror_that_lists_each_open_folder_once_is_believed_and_probed(shop: Workshop) -> None:
    fill(shop)
    with index(shop.mirror, "once"):
        first, second = shop.cycle(), shop.cycle()

        assert (first.result, second.result) == (Result.SUCCESS, Result.SUCCESS)
        assert len(first.of(MirrorProbed)) == 1
        assert not second.copied
        assert not second.drift
        assert not [name for name in shop.names() if "tmp" in name]
        assert told(shop) == {}


def test_notes_of_left_temps_are_found_and_cleared_where_a_folder_is_listed_once(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with index(state, "once"):
        folder = os.open(state, os.O_RDONLY)
        with closing(TempJournal(folder, 1)) as notes:
            notes.note(b"music")
        with closing(TempJournal(folder)) as all_notes:
            found = all_notes.noted()
            all_notes.clear_all()
        os.close(folder)
        left = os.listdir(state)

    assert (found, left) == ([b"music"], [])


@pytest.fixture
def hiding(shop: Workshop, tmp_path: Path) -> Iterator[tuple[Workshop, Path]]:
    """A source whose listings hide what the file says."""
    control = tmp_path / "control"
    with hiding_fs(shop.source, control):
        fill(shop)
        yield shop, control


@pytest.fixture
def mirror_hides(shop: Workshop, tmp_path: Path) -> Iterator[tuple[Workshop, Path]]:
    """A mirror whose listings hide what the file says."""
    control = tmp_path / "control"
    fill(shop)
    with hiding_fs(shop.mirror, control):
        yield shop, control


class TestASourceThatHidesNames:
    def test_a_known_name_that_a_listing_hides_makes_its_folder_fail(self, hiding: tuple[Workshop, Path]) -> None:
        shop, control = hiding
        shop.cycle()
        control.write_text("0 /one/a\n")

        told_, again = shop.cycle(), shop.cycle()

        assert (told_.result, again.result) == (Result.PARTIAL, Result.PARTIAL)
        assert told_.failed == again.failed == {b"one": Failure.IO_ERROR}
        assert (shop.mirror / "one/a").read_text() == "one/a"

    def test_the_folder_is_right_again_as_soon_as_its_listing_is(self, hiding: tuple[Workshop, Path]) -> None:
        shop, control = hiding
        shop.cycle()
        control.write_text("0 /one/a\n")
        shop.cycle()
        control.write_text("")

        told_ = shop.cycle()

        assert told_.result is Result.SUCCESS
        assert not told_.copied

    def test_a_new_folder_that_is_empty_at_the_second_look_fails(self, hiding: tuple[Workshop, Path]) -> None:
        shop, control = hiding
        control.write_text("1 /two/d\n")

        told_ = shop.cycle()

        assert told_.result is Result.PARTIAL
        assert told_.failed == {b"two": Failure.IO_ERROR}
        assert b"two/d" not in told_.copied

    def test_what_was_deleted_is_no_contradiction(self, hiding: tuple[Workshop, Path]) -> None:
        shop, _ = hiding
        shop.cycle()
        for name in ("one/a", "two/d"):
            (shop.source / name).unlink()

        assert shop.cycle().result is Result.SUCCESS

    def test_a_source_that_is_empty_at_the_second_look_is_refused(self, hiding: tuple[Workshop, Path]) -> None:
        shop, control = hiding
        control.write_text("1 /top\n1 /one\n1 /two\n")

        told_ = shop.cycle()

        assert told_.result is Result.REFUSED
        assert [event.reason for event in told_.of(PairRefused)] == [Refusal.SOURCE_UNREADABLE]

    def test_a_comparison_names_what_is_hidden(self, hiding: tuple[Workshop, Path]) -> None:
        shop, control = hiding
        shop.cycle()
        control.write_text("0 /one/a\n")

        assert told(shop) == {b"one/a": "unreadable"}

    def test_a_plan_says_that_the_folder_will_fail(self, hiding: tuple[Workshop, Path]) -> None:
        shop, control = hiding
        shop.cycle()
        control.write_text("0 /one/a\n")

        assert [(step.path, step.action) for step in shop.plan()] == [(b"one", "fail")]


class TestAMirrorThatHidesNames:
    def test_a_copy_that_the_listing_hides_counts_as_copied(self, mirror_hides: tuple[Workshop, Path]) -> None:
        shop, control = mirror_hides
        control.write_text("0 /one/a\n0 /top\n")

        told_ = shop.cycle()

        assert told_.result is Result.SUCCESS
        assert {b"one/a", b"top"} <= set(told_.copied)

    def test_a_good_copy_that_the_listing_hides_is_no_drift(self, mirror_hides: tuple[Workshop, Path]) -> None:
        shop, control = mirror_hides
        shop.cycle()
        control.write_text("0 /one/a\n")

        told_ = shop.cycle()

        assert told_.result is Result.SUCCESS
        assert not told_.copied
        assert not told_.drift
