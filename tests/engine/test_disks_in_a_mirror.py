"""A second file system mounted somewhere in a mirror: synced, probed and measured by itself, with errors of its own."""

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from job.app.preview_setup import open_comparison
from job.core.outcome import Failure, Result
from job.engine.context import PairContext
from job.engine.preflight.open_pair import open_roots
from job.engine.tree_compare import HARMLESS, compare
from job.engine.volumes import Tools
from job.events.pair import FileFailed, IndexRebuilt, MirrorProbed
from tests.engine.workshop import ListenedSync, Told, Workshop, assert_mirrored, changed, with_tools
from tests.faults.images import disk
from tests.faults.tampering import mounted
from tests.memory_disks import memory_disk

pytestmark = pytest.mark.needs_root

MIB = 1 << 20


@pytest.fixture(params=[1, 3], ids=["alone", "with workers"])
def either(shop: Workshop, request: pytest.FixtureRequest) -> Workshop:
    """A pair that is worked on by one process, or by several."""
    shop.options |= {"workers": request.param, "workers_from": 0}
    shop.write("beside/file")
    shop.write("usb/file")
    (shop.mirror / "usb").mkdir()
    return shop


@pytest.fixture
def mounts() -> Iterator[ExitStack]:
    with ExitStack() as undo:
        yield undo


def sentences(told: Told) -> dict[bytes, str]:
    return {event.path: event.error for event in told.of(FileFailed)}


def noted(shop: Workshop) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shop.state / "mirror.json").read_text())
    return found


# Syncs ---------------------------------------------------------------------------------------------------------------


def test_a_file_system_without_a_sync_of_its_own_gets_one_for_each_file(either: Workshop, tmp_path: Path) -> None:
    with memory_disk(either.mirror / "usb", f"log={tmp_path / 'syncs'}"):
        told = either.cycle()

        assert told.result is Result.SUCCESS
        assert len((tmp_path / "syncs").read_text().splitlines()) >= 2  # the file, and the folder that names it
        assert_mirrored(either)


@pytest.mark.one_process
def test_a_disk_is_synced_before_the_names_and_before_anything_is_told(shop: Workshop) -> None:
    shop.write("beside")
    shop.write("usb/file")
    (shop.mirror / "usb").mkdir()
    story: list[str] = []

    def listened(context: PairContext) -> PairContext:
        def note(what: str) -> None:
            on_usb = sorted(path.name[:13] for path in (shop.mirror / "usb").iterdir() if path.name != "lost+found")
            story.append(f"{what}: {on_usb}")

        def exchange(tools: Tools) -> Tools:
            others = [each._replace(sync=ListenedSync(each.sync, lambda: note("usb"))) for each in tools.mounted]
            return tools._replace(sync=ListenedSync(tools.sync, lambda: note("root")), mounted=others)

        return with_tools(context, exchange)

    with disk(shop.mirror / "usb", "ext4", 32 * MIB):
        told = shop.cycle(changed(listened))

    assert told.result is Result.SUCCESS
    assert [line for line in story if line.startswith("usb")] == ["usb: ['.truecopy-tmp']", "usb: ['file']"]
    assert sum(line.startswith("root") for line in story) == 2


@pytest.mark.one_process
def test_a_sync_that_fails_on_a_disk_voids_only_what_is_on_that(shop: Workshop) -> None:
    for name in ("before", "usb/file", "zebra/file"):
        shop.write(name)
    (shop.mirror / "usb").mkdir()

    def broken(context: PairContext) -> PairContext:
        def fail() -> None:
            raise OSError(errno.EIO, "the disk is broken")

        def exchange(tools: Tools) -> Tools:
            others = [each._replace(sync=ListenedSync(each.sync, fail)) for each in tools.mounted]
            return tools._replace(mounted=others)

        return with_tools(context, exchange)

    with disk(shop.mirror / "usb", "ext4", 32 * MIB):
        told = shop.cycle(changed(broken))
        again = shop.cycle()

        assert told.failed == {b"usb/file": Failure.SYNC, b"usb": Failure.SYNC}
        assert set(told.copied) == {b"before", b"zebra/file"}
        assert told.committed == told.tally
        assert set(again.copied) == {b"usb/file"}
        assert again.result is Result.SUCCESS


def test_a_mirror_of_one_file_system_knows_of_no_other(shop: Workshop) -> None:
    shop.write("file")
    seen: list[int] = []

    def looked_at(context: PairContext) -> PairContext:
        seen.append(len(context.tools.mounted))
        return context

    shop.cycle(changed(looked_at))

    assert seen == [0]
    assert list(noted(shop)) == [""]


# What they can hold --------------------------------------------------------------------------------------------------


def test_names_that_a_disk_takes_for_one_fail_there_and_only_there(either: Workshop) -> None:
    for folder in ("beside", "usb"):
        for name in ("Report", "report"):
            either.write(f"{folder}/{name}", f"{folder} {name}")

    with memory_disk(either.mirror / "usb", "fold", "fat"):
        for _ in range(2):
            told = either.cycle()

            assert told.result is Result.PARTIAL
            assert told.failed == {b"usb/Report": Failure.NAME, b"usb/report": Failure.NAME}
        assert os.listdir(either.mirror / "usb") == ["file"]
        assert sorted(os.listdir(either.mirror / "beside")) == ["Report", "file", "report"]


def test_what_a_disk_cannot_hold_is_found_out_once_and_told_with_its_place(either: Workshop) -> None:
    with memory_disk(either.mirror / "usb", "fat"):
        first, second = either.cycle(), either.cycle()

        probed = {event.file_system: event.lacks for event in first.of(MirrorProbed)}
        assert "hard links" in probed["fuse.memfs mounted at usb"]
        assert second.of(MirrorProbed) == []
        assert second.tally.copied == second.tally.updated == second.tally.failed == 0
        assert list(noted(either)) == ["", "usb"]


def test_a_disk_with_two_second_times_is_no_reason_to_copy_again(either: Workshop) -> None:
    os.utime(either.source / "usb/file", ns=(1, 1_234_567_891_123_456_789))
    with memory_disk(either.mirror / "usb", "fat"):
        either.cycle()
        os.utime(either.source / "usb/file", ns=(2, 1_234_567_891_123_456_789))

        told = either.cycle()

        assert told.result is Result.SUCCESS
        assert told.tally.copied == 0


def test_a_disk_on_which_nothing_of_the_source_goes_is_left_alone(shop: Workshop) -> None:
    shop.write("file")
    shop.write("excluded/file")
    shop.options["exclude"] = ["excluded/"]
    for name in ("not-ours", "excluded"):
        (shop.mirror / name).mkdir()
    with disk(shop.mirror / "not-ours", "ext4", 32 * MIB) as one, memory_disk(shop.mirror / "excluded") as other:
        before = [os.stat(each).st_mtime_ns for each in (one, other)]

        told = shop.cycle()

        assert told.result is Result.SUCCESS
        assert [os.stat(each).st_mtime_ns for each in (one, other)] == before
        assert list(noted(shop)) == [""]


@pytest.mark.needs_tool("mkfs.btrfs")
def test_a_subvolume_of_btrfs_is_no_disk_of_its_own(shop: Workshop) -> None:
    for name in ("file", "sub/file", "deep/sub/file"):
        shop.write(name)
    shop.mirror.rmdir()
    with disk(shop.mirror, "btrfs", 128 * MIB):
        (shop.mirror / "deep").mkdir()
        for name in ("sub", "deep/sub"):
            subprocess.run(["btrfs", "subvolume", "create", str(shop.mirror / name)], check=True, capture_output=True)

        told = shop.cycle()

        assert told.result is Result.SUCCESS
        assert list(noted(shop)) == [""]
        assert_mirrored(shop)
        assert shop.cycle().tally.copied == 0


# Errors of their own -------------------------------------------------------------------------------------------------


def test_a_read_only_disk_fails_what_is_below_it_by_its_name_and_the_rest_goes_on(either: Workshop) -> None:
    either.write("usb/new/file")
    either.write("zebra/file")
    at = either.mirror / "usb"
    with mounted("tmpfs", at, "-t", "tmpfs", "-o", "ro"):
        told = either.cycle()

        assert told.result is Result.PARTIAL
        assert set(told.copied) == {b"beside/file", b"zebra/file"}
        assert b"usb/file" in told.failed
        assert told.failed[b"usb/file"] is Failure.READ_ONLY
        assert sentences(told)[b"usb/file"] == (
            f"the file system mounted at {at} (tmpfs) is read-only; mount it writable"
        )


def test_a_read_only_disk_that_holds_everything_is_a_success(either: Workshop, tmp_path: Path) -> None:
    image = tmp_path / "image"
    subprocess.run(["truncate", "-s", "32M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    at = either.mirror / "usb"
    with mounted(str(image), at, "-o", "loop"):
        (at / "lost+found").rmdir()
        assert either.cycle().result is Result.SUCCESS
    with mounted(str(image), at, "-o", "loop,ro"):
        told = either.cycle()

        assert told.result is Result.SUCCESS
        assert told.tally.copied == told.tally.updated == 0


def test_a_part_of_the_same_disk_mounted_read_only_ends_nothing_either(shop: Workshop) -> None:
    for name in ("beside", "usb/file", "zebra/file"):
        shop.write(name)
    at = shop.mirror / "usb"
    elsewhere = shop.base / "elsewhere"
    elsewhere.mkdir()
    with mounted(str(elsewhere), at, "--bind", "-o", "ro"):
        told = shop.cycle()

        assert told.failed.pop(b"usb/file") is Failure.READ_ONLY
        assert set(told.copied) == {b"beside", b"zebra/file"}
        assert f"mounted at {at} " in sentences(told)[b"usb/file"]


def test_the_room_on_each_disk_is_measured_by_itself(either: Workshop) -> None:
    (either.source / "usb/large").write_bytes(bytes(range(256)) * 4096 * 2)
    (either.source / "beside/large").write_bytes(bytes(range(256)) * 4096 * 2)
    with mounted("tmpfs", either.mirror / "usb", "-t", "tmpfs", "-o", "size=2m"):
        told = either.cycle()

        assert told.failed == {b"usb/large": Failure.NO_SPACE}
        assert set(told.copied) == {b"beside/file", b"beside/large", b"usb/file"}


def test_a_folder_that_gives_way_on_a_disk_fails_with_what_to_do(shop: Workshop) -> None:
    shop.write("usb/place/file")
    (shop.mirror / "usb").mkdir()
    with mounted("tmpfs", shop.mirror / "usb", "-t", "tmpfs"):
        shop.cycle()
        (shop.source / "usb/place/file").unlink()
        (shop.source / "usb/place").rmdir()
        shop.write("usb/place", "now a file")

        told = shop.cycle()

        assert set(told.failed) == {b"usb/place"}
        assert (
            "another file system than the versions in .truecopy; move that folder away" in sentences(told)[b"usb/place"]
        )
        assert (shop.mirror / "usb/place/file").read_text() == "content"


def test_a_file_in_the_source_where_a_disk_is_mounted_fails_with_what_to_do(shop: Workshop) -> None:
    shop.write("usb", "a file")
    (shop.mirror / "usb").mkdir()
    with mounted("tmpfs", shop.mirror / "usb", "-t", "tmpfs"):
        told = shop.cycle()

        assert set(told.failed) == {b"usb"}
        assert "a file system is mounted in the mirror under this name" in sentences(told)[b"usb"]


def test_names_of_one_file_on_two_disks_are_copied_apart(either: Workshop) -> None:
    os.link(either.source / "beside/file", either.source / "usb/other")
    with mounted("tmpfs", either.mirror / "usb", "-t", "tmpfs"):
        first, second = either.cycle(), either.cycle()

        assert first.result is second.result is Result.SUCCESS
        assert second.tally.copied == second.tally.updated == 0
        assert second.drift == {}
        assert (either.mirror / "usb/other").read_text() == "content"
        assert_mirrored(either)


def test_a_comparison_does_not_ask_for_links_between_disks_nor_for_what_a_disk_cannot_hold(either: Workshop) -> None:
    os.link(either.source / "beside/file", either.source / "usb/other")
    (either.source / "usb/file").chmod(0o640)
    with memory_disk(either.mirror / "usb", "fat"):
        either.cycle()
        config, pair = either.config, either.pair
        with (
            open_roots(pair, None) as (source, mirror),
            open_comparison(config, pair, source, mirror, lambda _entries, _bytes: None) as view,
        ):
            found = [each for each in compare(view) if each.what not in HARMLESS]

        assert found == []


# Mounted and not -----------------------------------------------------------------------------------------------------


def test_nothing_is_copied_to_where_a_disk_was_and_it_goes_on_when_the_disk_is_back(
    either: Workshop, tmp_path: Path
) -> None:
    image, at = tmp_path / "image", either.mirror / "usb"
    subprocess.run(["truncate", "-s", "32M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    with mounted(str(image), at, "-o", "loop"):
        (at / "lost+found").rmdir()
        assert either.cycle().result is Result.SUCCESS
    either.write("beside/new")

    planned = {step.path: step.action for step in either.plan()}
    without = either.cycle()

    assert planned == {b"beside/new": "copy", b"usb": "fail"}

    assert without.result is Result.PARTIAL
    assert set(without.copied) == {b"beside/new"}
    assert set(sentences(without)) == {b"usb"}
    assert sentences(without)[b"usb"].startswith(
        "in the mirror a file system was mounted here, and is not mounted now;"
    )
    assert os.listdir(at) == []
    with mounted(str(image), at, "-o", "loop"):
        back = either.cycle()

        assert back.result is Result.SUCCESS
        assert back.tally.copied == 0
        assert back.drift == {}


def test_a_disk_that_is_not_to_come_back_is_done_without_once_its_folder_is_removed(either: Workshop) -> None:
    at = either.mirror / "usb"
    with mounted("tmpfs", at, "-t", "tmpfs"):
        either.cycle()
    at.rmdir()

    told = either.cycle()

    assert told.result is Result.SUCCESS
    assert set(told.copied) == {b"usb/file"}
    assert told.drift == {}
    assert_mirrored(either)


def test_another_disk_at_the_same_place_is_compared_and_not_believed(either: Workshop) -> None:
    at = either.mirror / "usb"
    with mounted("tmpfs", at, "-t", "tmpfs"):
        either.cycle()
    with mounted("tmpfs", at, "-t", "tmpfs"):
        (at / "file").write_text("CONTENT")
        seen = (either.source / "usb/file").stat()
        os.utime(at / "file", ns=(seen.st_atime_ns, seen.st_mtime_ns))

        told = either.cycle()

        assert told.result is Result.SUCCESS
        assert (at / "file").read_text() == "content"
        assert told.drift == {}
        assert [event.reason for event in told.of(IndexRebuilt)] == [
            "another file system is mounted at usb than the one that it was made for"
        ]


def test_a_dry_run_goes_by_each_disk(either: Workshop) -> None:
    either.write("usb/Report")
    either.write("usb/report")
    with memory_disk(either.mirror / "usb", "fold", "fat"):
        either.cycle()

        planned = {step.path: step.action for step in either.plan()}

        assert planned == {b"usb/Report": "fail", b"usb/report": "fail"}
