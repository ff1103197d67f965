"""FIFOs, sockets and devices: counted, or made in the mirror, too; never opened."""

import os
import socket
import stat
from pathlib import Path

import pytest

from job.core.entry import Kind
from job.core.outcome import Drift, Result, Skip
from job.events.pair import FileCopied, FileUpdated
from tests.engine.workshop import Workshop
from tests.fidelity.scope import acl

pytestmark = pytest.mark.needs_root


@pytest.fixture
def odd(shop: Workshop) -> Workshop:
    """A source with one of each kind."""
    shop.options["specials"] = "recreate"
    os.mkfifo(shop.source / "fifo", 0o640)
    os.mknod(shop.source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(shop.source / "loop", stat.S_IFBLK | 0o660, os.makedev(7, 99))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(shop.source / "socket"))
    (shop.source / "null").chmod(0o666)
    os.chown(shop.source / "fifo", 1234, 4321)
    for path in shop.source.iterdir():
        os.utime(path, ns=(5, 7))
    return shop


def facts(folder: Path) -> dict[str, tuple[int, ...]]:
    found = {path.name: path.lstat() for path in folder.iterdir() if path.name != ".truecopy"}
    return {
        name: (seen.st_mode, seen.st_rdev, seen.st_uid, seen.st_gid, seen.st_mtime_ns) for name, seen in found.items()
    }


def test_special_files_are_made_in_the_mirror_with_their_metadata(odd: Workshop) -> None:
    told = odd.cycle()

    assert told.result is Result.SUCCESS
    assert facts(odd.mirror) == facts(odd.source)
    assert {event.kind for event in told.of(FileCopied)} == {Kind.SPECIAL}
    assert {event.checksum for event in told.of(FileCopied)} == {""}


def test_a_second_cycle_leaves_them_alone(odd: Workshop) -> None:
    odd.cycle()

    told = odd.cycle()

    assert told.tally.skipped_by == {Skip.UNCHANGED: 4}
    assert told.drift == {}


def test_other_metadata_are_mended_in_place(odd: Workshop) -> None:
    odd.cycle()
    before = (odd.mirror / "fifo").lstat().st_ino
    (odd.source / "fifo").chmod(0o600)

    told = odd.cycle()

    assert [event.path for event in told.of(FileUpdated)] == [b"fifo"]
    assert (odd.mirror / "fifo").lstat().st_ino == before
    assert facts(odd.mirror) == facts(odd.source)


def test_another_device_of_the_same_name_and_times_replaces_it(odd: Workshop) -> None:
    odd.cycle()
    (odd.source / "null").unlink()
    os.mknod(odd.source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    (odd.source / "null").chmod(0o666)
    os.utime(odd.source / "null", ns=(5, 7))

    told = odd.cycle()

    assert set(told.copied) == {b"null"}
    assert facts(odd.mirror) == facts(odd.source)


def test_one_that_somebody_replaced_in_the_mirror_is_drift_and_healed(odd: Workshop) -> None:
    odd.cycle()
    (odd.mirror / "fifo").unlink()
    (odd.mirror / "fifo").write_text("planted")

    told = odd.cycle()

    assert told.drift == {Drift.REPLACED: 1}
    assert facts(odd.mirror) == facts(odd.source)


def test_a_file_becomes_a_fifo_and_a_file_again(odd: Workshop) -> None:
    odd.cycle()
    path = odd.source / "fifo"
    path.unlink()
    path.write_text("a file now")
    odd.cycle()
    assert (odd.mirror / "fifo").read_text() == "a file now"
    path.unlink()
    os.mkfifo(path, 0o640)

    odd.cycle()

    assert facts(odd.mirror) == facts(odd.source)


def test_by_default_they_are_counted_and_nothing_is_made(odd: Workshop) -> None:
    del odd.options["specials"]

    told = odd.cycle()

    assert told.result is Result.SUCCESS
    assert told.tally.skipped_by == {Skip.SPECIAL_FILE: 4}
    assert odd.names() == set()


def test_they_are_made_as_soon_as_the_option_asks_for_it(odd: Workshop) -> None:
    odd.options["specials"] = "skip"
    odd.cycle()
    odd.options["specials"] = "recreate"

    odd.cycle()

    assert facts(odd.mirror) == facts(odd.source)


def test_one_that_comes_to_a_folder_with_a_default_acl_gets_nothing_of_it(odd: Workshop) -> None:
    folder = odd.source / "folder"
    folder.mkdir()
    os.setxattr(folder, "system.posix_acl_default", acl(7))
    odd.cycle()
    (odd.source / "fifo").rename(folder / "fifo")

    odd.cycle()

    assert os.listxattr(folder / "fifo") == os.listxattr(odd.mirror / "folder/fifo") == []
    assert facts(odd.mirror / "folder") == facts(folder)
    assert odd.cycle().tally.updated == 0


def test_an_acl_that_somebody_gives_to_one_in_the_mirror_is_taken_away(odd: Workshop) -> None:
    odd.cycle()
    os.setxattr(odd.mirror / "fifo", "system.posix_acl_access", acl(7))

    told = odd.cycle()

    assert sum(told.drift.values()) == 1
    assert os.listxattr(odd.mirror / "fifo") == []
    assert facts(odd.mirror) == facts(odd.source)


def test_an_acl_of_one_is_kept_and_followed(odd: Workshop) -> None:
    os.setxattr(odd.source / "fifo", "system.posix_acl_access", acl(7))
    odd.cycle()
    first = os.getxattr(odd.mirror / "fifo", "system.posix_acl_access")
    os.setxattr(odd.source / "fifo", "system.posix_acl_access", acl(4))

    told = odd.cycle()

    assert first == acl(7)
    assert os.getxattr(odd.mirror / "fifo", "system.posix_acl_access") == acl(4)
    assert (told.tally.copied, told.tally.updated) == (0, 1)
    assert facts(odd.mirror) == facts(odd.source)
    assert odd.cycle().tally.updated == 0


def test_the_kernels_attributes_of_links_and_special_files_are_kept_if_asked_for(odd: Workshop) -> None:
    odd.options["keep_security"] = True
    (odd.source / "link").symlink_to("nowhere")
    for name in ("link", "fifo"):
        os.setxattr(odd.source / name, "trusted.note", b"mine", follow_symlinks=False)

    odd.cycle()

    for name in ("link", "fifo"):
        assert os.getxattr(odd.mirror / name, "trusted.note", follow_symlinks=False) == b"mine"
