"""Other file systems in a source: taken in unless `cross_mounts` says otherwise, and missed when they are gone."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from job.core.outcome import Failure, Result, Skip
from job.events.pair import FileFailed, MountForgotten, MountMissing, MountSkipped, PseudoFilesystemSkipped
from tests.engine.test_tree_compare import compared, told
from tests.engine.workshop import Told, Workshop, assert_mirrored
from tests.faults.tampering import mounted

pytestmark = pytest.mark.needs_root


@contextmanager
def disk_at(at: Path) -> Iterator[Path]:
    """Mount a file system with a file and a folder in it."""
    with mounted("tmpfs", at, "-t", "tmpfs", "-o", "mode=750"):
        (at / "inside").write_text("on another disk")
        (at / "deeper").mkdir()
        (at / "deeper/down").write_text("deep")
        yield at


@pytest.fixture
def disk(shop: Workshop) -> Iterator[Workshop]:
    """A source with a file system mounted two folders down."""
    shop.write("beside/file")
    with disk_at(shop.source / "media/disk"):
        yield shop


@pytest.fixture
def unmounted(shop: Workshop) -> Workshop:
    """The same, mirrored and then unmounted."""
    shop.write("beside/file")
    with disk_at(shop.source / "media/disk"):
        assert shop.cycle().result is Result.SUCCESS
    return shop


def skipped(found: Told) -> list[tuple[bytes, str]]:
    return [(event.path, event.file_system) for event in found.of(MountSkipped)]


class TestTakenIn:
    def test_what_is_mounted_in_a_source_is_part_of_it(self, disk: Workshop) -> None:
        found = disk.cycle()

        assert found.result is Result.SUCCESS
        assert skipped(found) == []
        assert (disk.mirror / "media/disk/deeper/down").read_text() == "deep"
        assert_mirrored(disk)

    def test_workers_take_it_in_too(self, disk: Workshop) -> None:
        disk.options |= {"workers": 3, "workers_from": 0}

        assert disk.cycle().result is Result.SUCCESS
        assert_mirrored(disk)

    def test_file_systems_of_the_kernel_are_left_out_and_named_once(self, shop: Workshop) -> None:
        shop.write("file")
        with mounted("proc", shop.source / "proc", "-t", "proc"):
            first, second = shop.cycle(), shop.cycle()
            steps = [(step.path, step.action) for step in shop.plan()]

        assert first.result is second.result is Result.SUCCESS
        assert [(each.path, each.file_system) for each in first.of(PseudoFilesystemSkipped)] == [(b"proc", "proc")]
        assert second.of(PseudoFilesystemSkipped) == []
        assert Skip.MOUNT not in first.tally.skipped_by
        assert shop.names() == {"file", "proc"}
        assert steps == [(b"proc", "leave_out")]

    def test_a_source_that_is_a_file_system_of_the_kernel_was_asked_for(self, shop: Workshop) -> None:
        # One of a process namespace that has ended has no processes in it: it takes a tenth of the time.
        subprocess.run(["unshare", "--fork", "--pid", "mount", "-t", "proc", "proc", shop.source], check=True)
        try:
            actions = {step.path: step.action for step in shop.plan()}
        finally:
            subprocess.run(["umount", "--lazy", shop.source], check=True)

        assert actions[b"version"] == "copy"

    @pytest.mark.needs_tool("mkfs.btrfs")
    def test_a_subvolume_of_btrfs_is_taken_in_or_named_as_one(self, shop: Workshop, tmp_path: Path) -> None:
        image = tmp_path / "image"
        subprocess.run(["truncate", "--size=200M", image], check=True)
        subprocess.run(["mkfs.btrfs", "-q", image], check=True, capture_output=True)
        with mounted(str(image), shop.source, "-o", "loop"):
            subprocess.run(["btrfs", "subvolume", "create", shop.source / "photos"], check=True, capture_output=True)
            shop.write("photos/picture")
            shop.write("docs/text")
            shop.options["cross_mounts"] = False
            out = shop.cycle()
            details = {each.path: each.detail for each in compared(shop)}
            names = shop.names()
            shop.options["cross_mounts"] = True
            taken = shop.cycle()

            assert_mirrored(shop)

        assert skipped(out) == [(b"photos", "btrfs subvolume")]
        assert details[b"photos"] == "it is a btrfs subvolume, and cross_mounts is off"
        assert "photos/picture" not in names
        assert set(taken.copied) == {b"photos/picture"}


class TestLeftOut:
    @pytest.fixture(autouse=True)
    def leave_out(self, shop: Workshop) -> None:
        shop.options["cross_mounts"] = False

    def test_what_is_mounted_is_named_once_and_counted_in_every_cycle(self, disk: Workshop) -> None:
        first, second = disk.cycle(), disk.cycle()

        assert first.result is second.result is Result.SUCCESS
        assert (skipped(first), skipped(second)) == ([(b"media/disk", "tmpfs")], [])
        assert [each.level for each in first.of(MountSkipped)] == ["warning"]
        assert first.tally.skipped_by[Skip.MOUNT] == second.tally.skipped_by[Skip.MOUNT] == 1
        assert disk.names() == {"beside", "beside/file", "media", "media/disk"}
        assert second.tally.copied == second.tally.updated == second.tally.failed == 0

    def test_another_one_is_named_when_it_comes(self, disk: Workshop) -> None:
        disk.cycle()
        with disk_at(disk.source / "second"):
            assert skipped(disk.cycle()) == [(b"second", "tmpfs")]

    def test_a_plan_and_a_comparison_name_it(self, disk: Workshop) -> None:
        planned = [(step.path, step.action) for step in disk.plan()]
        disk.cycle()

        assert (b"media/disk", "leave_out") in planned
        assert b"media/disk/inside" not in dict(planned)
        assert told(disk) == {b"media/disk": "left_out"}

    def test_what_was_taken_in_before_stays_in_the_mirror_and_is_not_missed(self, disk: Workshop) -> None:
        disk.options["cross_mounts"] = True
        disk.cycle()
        disk.options["cross_mounts"] = False

        found = disk.cycle()

        assert found.result is Result.SUCCESS
        assert found.of(MountForgotten) == []
        assert (disk.mirror / "media/disk/inside").read_text() == "on another disk"


class TestMissing:
    def test_its_mirror_is_left_alone_and_the_cycle_is_partial(self, unmounted: Workshop) -> None:
        before = (unmounted.mirror / "media/disk").stat()

        first, second = unmounted.cycle(), unmounted.cycle()

        assert first.result is second.result is Result.PARTIAL
        assert first.failed == second.failed == {b"media/disk": Failure.MOUNT_MISSING}
        assert [(each.path, each.file_system) for each in first.of(MountMissing)] == [(b"media/disk", "tmpfs")]
        assert second.of(MountMissing) == []
        assert "tmpfs was" in first.of(FileFailed)[0].error
        assert (unmounted.mirror / "media/disk").stat() == before
        assert (unmounted.mirror / "media/disk/deeper/down").read_text() == "deep"

    def test_the_rest_of_the_source_goes_on(self, unmounted: Workshop) -> None:
        unmounted.write("beside/new")

        assert set(unmounted.cycle().copied) == {b"beside/new"}

    def test_workers_miss_it_too(self, unmounted: Workshop) -> None:
        unmounted.options |= {"workers": 3, "workers_from": 0}

        assert unmounted.cycle().failed == {b"media/disk": Failure.MOUNT_MISSING}

    def test_mounted_again_it_is_as_before_and_can_be_missed_again(self, unmounted: Workshop) -> None:
        unmounted.cycle()
        with disk_at(unmounted.source / "media/disk"):
            back = unmounted.cycle()
        gone = unmounted.cycle()

        assert back.result is Result.SUCCESS
        assert [each.path for each in gone.of(MountMissing)] == [b"media/disk"]

    def test_a_plan_and_a_comparison_say_so(self, unmounted: Workshop) -> None:
        assert (b"media/disk", "fail") in [(step.path, step.action) for step in unmounted.plan()]
        assert told(unmounted)[b"media/disk"] == "unreadable"

    def test_a_lost_index_does_not_forget_it(self, unmounted: Workshop) -> None:
        (unmounted.state / "index.sqlite3").unlink()

        assert unmounted.cycle().failed == {b"media/disk": Failure.MOUNT_MISSING}

    @pytest.mark.parametrize("way", ["folder removed", "excluded", "other content", "left out above"])
    def test_whoever_removed_it_for_good_has_a_way_out(self, unmounted: Workshop, way: str) -> None:
        unmounted.cycle()
        if way == "folder removed":
            (unmounted.source / "media/disk").rmdir()
        elif way == "other content":
            unmounted.write("media/disk/of its own")
            (unmounted.source / "media/disk").chmod(0o750)  # as the disk's: nobody else gets at what is kept
        else:
            unmounted.options["exclude"] = ["disk/" if way == "excluded" else "media/"]

        found, again = unmounted.cycle(), unmounted.cycle()

        assert found.result is again.result is Result.SUCCESS
        assert [each.path for each in found.of(MountForgotten)] == [b"media/disk"]
        assert again.of(MountForgotten) == []
        assert (unmounted.mirror / "media/disk/inside").read_text() == "on another disk"

    def test_an_empty_disk_that_is_mounted_is_not_missing(self, shop: Workshop) -> None:
        shop.write("file")
        with mounted("tmpfs", shop.source / "disk", "-t", "tmpfs"):
            assert shop.cycle().result is shop.cycle().result is Result.SUCCESS

    def test_one_that_is_below_another_missing_one_is_remembered(self, shop: Workshop) -> None:
        shop.write("file")
        outer = shop.source / "outer"
        with disk_at(outer), disk_at(outer / "inner"):
            shop.cycle()
        missing = shop.cycle()
        with mounted("tmpfs", outer, "-t", "tmpfs", "-o", "mode=750"):
            (outer / "inner").mkdir()
            half = shop.cycle()

        assert missing.failed == {b"outer": Failure.MOUNT_MISSING}
        assert half.failed == {b"outer/inner": Failure.MOUNT_MISSING}
