"""Other file systems mounted inside a source: named and left out, unless they are asked for."""

from collections.abc import Iterator

import pytest

from job.core.events import MountSkipped
from job.core.outcome import Result
from tests.faults.tampering import mounted
from tests.tasks.workshop import Workshop, assert_mirrored

pytestmark = pytest.mark.needs_root


@pytest.fixture
def disk(shop: Workshop) -> Iterator[Workshop]:
    """A source with a file system mounted two folders down."""
    shop.write("beside/file")
    at = shop.source / "media/disk"
    at.mkdir(parents=True)
    with mounted("tmpfs", at, "-t", "tmpfs", "-o", "mode=750"):
        (at / "inside").write_text("on another disk")
        (at / "deeper").mkdir()
        yield shop


def test_what_is_mounted_in_a_source_is_named_and_left_out(disk: Workshop) -> None:
    told = disk.cycle()

    assert told.result is Result.SUCCESS
    assert [event.path for event in told.of(MountSkipped)] == [b"media/disk"]
    assert disk.names() == {"beside", "beside/file", "media", "media/disk"}


def test_it_is_named_in_every_cycle_and_costs_no_visit(disk: Workshop) -> None:
    disk.cycle()

    told = disk.cycle()

    assert [event.path for event in told.of(MountSkipped)] == [b"media/disk"]
    assert told.tally.copied == told.tally.updated == told.tally.failed == 0


def test_a_plan_names_it_too(disk: Workshop) -> None:
    planned = [(step.path, step.action) for step in disk.plan()]

    assert (b"media/disk", "leave_out") in planned
    assert b"media/disk/inside" not in dict(planned)


def test_it_is_taken_in_if_asked_for(disk: Workshop) -> None:
    disk.options["cross_mounts"] = True

    told = disk.cycle()

    assert told.of(MountSkipped) == []
    assert (disk.mirror / "media/disk/inside").read_text() == "on another disk"
    assert_mirrored(disk)


def test_it_is_taken_in_as_soon_as_the_option_says_so(disk: Workshop) -> None:
    disk.cycle()
    disk.options["cross_mounts"] = True

    disk.cycle()

    assert_mirrored(disk)


def test_what_was_taken_in_before_stays_in_the_mirror(disk: Workshop) -> None:
    disk.options["cross_mounts"] = True
    disk.cycle()
    disk.options["cross_mounts"] = False

    told = disk.cycle()

    assert told.result is Result.SUCCESS
    assert (disk.mirror / "media/disk/inside").read_text() == "on another disk"
