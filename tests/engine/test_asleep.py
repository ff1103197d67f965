"""A mirror whose disk sleeps between cycles: what changed on it is seen as soon as it is awake anyway."""

import shutil
from pathlib import Path

import pytest

from job.core.outcome import Drift, Result
from job.events.pair import DriftFound, PairStarted
from tests.engine.interference import edit
from tests.engine.workshop import HOUR_NS, Workshop, assert_mirrored

EVERYTHING = ("file", "sub/file", "sub/deeper/file", "other/file")


@pytest.fixture
def asleep(shop: Workshop) -> Workshop:
    """A mirrored pair whose mirror sleeps; an audit was just made."""
    shop.options = {"mirror_check": "asleep", "state_dir": str(shop.base / "state"), "audit_interval": "1h"}
    for name in EVERYTHING:
        shop.write(name)
    assert shop.cycle().result is Result.SUCCESS
    return shop


def drift(shop: Workshop) -> dict[bytes, Drift]:
    """Run a cycle; give the drift it found."""
    told = shop.cycle()
    assert told.result is Result.SUCCESS
    return {event.path: event.kind for event in told.of(DriftFound)}


def emptied(mirror: Path) -> None:
    shutil.rmtree(mirror)
    mirror.mkdir()


def emptied_in_place(mirror: Path) -> None:
    for path in mirror.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("empty", [emptied, emptied_in_place])
def test_an_emptied_mirror_is_noticed_at_once_although_nothing_else_changed(asleep: Workshop, empty: object) -> None:
    assert callable(empty)
    empty(asleep.mirror)

    found = drift(asleep)

    assert found == {name.encode(): Drift.MISSING for name in EVERYTHING}
    assert_mirrored(asleep)
    assert drift(asleep) == {}


def test_a_folder_missing_in_the_mirror_comes_back_whole_once_there_is_something_else_to_write(
    asleep: Workshop,
) -> None:
    shutil.rmtree(asleep.mirror / "sub/deeper")
    sleeping = drift(asleep)
    asleep.write("other/new")

    found = drift(asleep)

    assert sleeping == {}
    assert found == {b"sub/deeper/file": Drift.MISSING}
    assert_mirrored(asleep)


def test_an_edit_in_the_mirror_is_found_once_an_audit_is_due_and_there_is_something_to_write(
    asleep: Workshop,
) -> None:
    edit(asleep.mirror / "sub/file")
    asleep.ahead_ns += 2 * HOUR_NS
    sleeping = asleep.cycle()
    asleep.write("other/new")

    found = drift(asleep)

    assert sleeping.drift == {}
    assert not sleeping.of(PairStarted)[0].audit
    assert found == {b"sub/file": Drift.CONTENT}
    assert_mirrored(asleep)
