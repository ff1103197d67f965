"""A mirror whose disk sleeps between cycles: what changed on it is seen as soon as it is awake anyway."""

import json
import os
import shutil

import pytest

from job.core.outcome import Drift, Refusal, Result
from job.engine.preflight.adopt import adopt
from job.events.pair import DriftFound, PairRefused, PairStarted
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


def test_a_mirror_that_was_emptied_in_place_is_noticed_at_once_and_filled_once_it_is_adopted(asleep: Workshop) -> None:
    for path in asleep.mirror.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    told = asleep.cycle()

    [refused] = told.of(PairRefused)
    assert (told.result, refused.reason) == (Result.REFUSED, Refusal.MIRROR_MISSING)
    assert asleep.names() == set()
    adopt(asleep.pair, asleep.config.state_dir, asleep.memory, 1.0)
    assert asleep.cycle().copied.keys() == {name.encode() for name in EVERYTHING}
    assert_mirrored(asleep)
    assert drift(asleep) == {}


def test_a_mirror_that_was_made_anew_is_noticed_at_once_and_filled(asleep: Workshop) -> None:
    shutil.rmtree(asleep.mirror)
    asleep.mirror.mkdir()

    told = asleep.cycle()

    assert told.result is Result.SUCCESS
    assert told.copied.keys() == {name.encode() for name in EVERYTHING}
    assert_mirrored(asleep)
    assert drift(asleep) == {}


def test_what_was_removed_from_a_mirror_but_its_identity_comes_back_at_once(asleep: Workshop) -> None:
    for path in asleep.mirror.iterdir():
        if path.name != ".truecopy":
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    found = drift(asleep)

    assert found == {name.encode(): Drift.MISSING for name in EVERYTHING}
    assert_mirrored(asleep)


def test_another_mirror_in_the_place_of_a_sleeping_one_is_judged_before_it_is_written_to(asleep: Workshop) -> None:
    """Its root has the same inode, so that only its identity tells, which is read before the first write."""
    identity = asleep.state / "identity.json"
    document = json.loads(identity.read_text())
    identity.write_text(json.dumps(document | {"mirror_id": os.urandom(16).hex()}))
    sleeping = asleep.cycle()
    asleep.write("other/new")

    told = asleep.cycle()

    assert sleeping.result is Result.SUCCESS
    [refused] = told.of(PairRefused)
    assert refused.reason is Refusal.MIRROR_UNKNOWN
    assert "other/new" not in asleep.names()


def test_a_sleeping_mirror_that_an_older_copy_replaced_is_refused(asleep: Workshop) -> None:
    identity = asleep.state / "identity.json"
    before = identity.read_text()
    asleep.write("other/new")
    asleep.cycle()
    identity.write_text(before)
    asleep.write("other/newer")

    [refused] = asleep.cycle().of(PairRefused)

    assert refused.reason is Refusal.MIRROR_UNKNOWN
    assert "other/newer" not in asleep.names()


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
