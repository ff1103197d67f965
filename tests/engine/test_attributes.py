"""POSIX ACLs, the kernel's attributes and setuid bits: kept as far as they are asked for."""

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from job.core.outcome import Result
from job.events.pair import FileUpdated, MetadataNotKept
from tests.engine.workshop import NOBODY, Told, Workshop, as_nobody, assert_mirrored

pytestmark = pytest.mark.needs_root

ACCESS, DEFAULT, CAPABILITY = "system.posix_acl_access", "system.posix_acl_default", "security.capability"
_USER_OBJ, _USER, _GROUP_OBJ, _MASK, _OTHER = 1, 2, 4, 16, 32
_NOBODY_ID = 0xFFFFFFFF
CAP_NET_RAW = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)


def acl(user: int, *, mask: int = 7) -> bytes:
    """Give an ACL in the kernel's form: one more user may do what `user` says."""
    entries = [
        (_USER_OBJ, 6, _NOBODY_ID),
        (_USER, user, 1234),
        (_GROUP_OBJ, 4, _NOBODY_ID),
        (_MASK, mask, _NOBODY_ID),
        (_OTHER, 0, _NOBODY_ID),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def attributes(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def with_acl(path: Path) -> None:
    os.setxattr(path, ACCESS, acl(7))


def with_colour(path: Path) -> None:
    os.setxattr(path, "user.colour", b"blue")


@pytest.mark.parametrize("mark", [with_acl, with_colour])
def test_attributes_of_files_and_folders_are_kept(shop: Workshop, mark: Callable[[Path], None]) -> None:
    mark(shop.write("folder/file"))
    mark(shop.source / "folder")

    shop.cycle()

    for name in ("folder", "folder/file"):
        assert attributes(shop.mirror / name) == attributes(shop.source / name) != {}
    assert_mirrored(shop)
    assert shop.cycle().tally.updated == 0


def test_a_default_acl_of_a_folder_is_kept_and_gives_its_files_nothing_they_do_not_have(shop: Workshop) -> None:
    shop.write("folder/before")
    os.setxattr(shop.source / "folder", DEFAULT, acl(7))
    shop.write("folder/after")
    shop.cycle()
    plain = shop.write("folder/plain")
    os.removexattr(plain, ACCESS)
    plain.chmod(0o640)

    shop.cycle()

    assert os.getxattr(shop.mirror / "folder", DEFAULT) == acl(7)
    for name in ("before", "after", "plain"):
        assert attributes(shop.mirror / "folder" / name) == attributes(shop.source / "folder" / name)
    assert_mirrored(shop)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: os.setxattr(path, ACCESS, acl(5, mask=5)),
        lambda path: os.removexattr(path, ACCESS),
        lambda path: path.chmod(0o600),
    ],
    ids=["other rights", "none any more", "chmod"],
)
def test_a_changed_acl_is_mended_without_copying(shop: Workshop, change: Callable[[Path], None]) -> None:
    path = shop.write("file")
    os.setxattr(path, ACCESS, acl(7))
    shop.cycle()
    change(path)

    told = shop.cycle()

    assert [event.path for event in told.of(FileUpdated)] == [b"file"]
    assert told.copied == {}
    assert attributes(shop.mirror / "file") == attributes(path)
    assert_mirrored(shop)


def test_somebody_elses_acl_in_the_mirror_is_drift_and_taken_away(shop: Workshop) -> None:
    shop.write("file")
    shop.cycle()
    os.setxattr(shop.mirror / "file", ACCESS, acl(7))

    told = shop.cycle()

    assert sum(told.drift.values()) == 1
    assert attributes(shop.mirror / "file") == {}
    assert_mirrored(shop)


def test_capabilities_are_kept_only_if_asked_for(shop: Workshop) -> None:
    path = shop.write("ping")
    os.chown(path, 1234, 1234)
    os.setxattr(path, CAPABILITY, CAP_NET_RAW)
    shop.cycle()
    assert attributes(shop.mirror / "ping") == {}
    shop.options["keep_security"] = True

    told = shop.cycle()

    assert told.copied == {}
    assert attributes(shop.mirror / "ping") == attributes(path)
    assert_mirrored(shop)
    assert shop.cycle().tally.updated == 0


def test_capabilities_of_a_new_file_outlive_its_change_of_owner(shop: Workshop) -> None:
    shop.options["keep_security"] = True
    path = shop.write("ping")
    os.chown(path, 1234, 1234)
    os.setxattr(path, CAPABILITY, CAP_NET_RAW)

    shop.cycle()

    assert os.getxattr(shop.mirror / "ping", CAPABILITY) == CAP_NET_RAW


@pytest.mark.parametrize("bits", [0o4755, 0o2755, 0o6711])
def test_setuid_bits_are_kept_only_if_asked_for(shop: Workshop, bits: int) -> None:
    path = shop.write("su")
    os.chown(path, 1234, 4321)
    path.chmod(bits)
    shop.cycle()
    assert stat.S_IMODE((shop.mirror / "su").stat().st_mode) == bits & 0o1777
    shop.options["keep_setuid"] = True

    told = shop.cycle()

    assert told.copied == {}
    assert stat.S_IMODE((shop.mirror / "su").stat().st_mode) == bits
    assert shop.cycle().tally.updated == 0


def test_setuid_bits_of_a_new_file_outlive_its_change_of_owner(shop: Workshop) -> None:
    shop.options["keep_setuid"] = True
    path = shop.write("su")
    os.chown(path, 1234, 4321)
    path.chmod(0o4755)

    shop.cycle()

    seen = (shop.mirror / "su").stat()
    assert (stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid) == (0o4755, 1234, 4321)


def test_setuid_bits_are_taken_away_again_once_the_option_is_off(shop: Workshop) -> None:
    shop.options["keep_setuid"] = True
    shop.write("su").chmod(0o4755)
    shop.cycle()
    shop.options["keep_setuid"] = False

    shop.cycle()

    assert stat.S_IMODE((shop.mirror / "su").stat().st_mode) == 0o755


def test_who_cannot_give_files_away_gives_no_setuid_bit_either(open_shop: Workshop) -> None:
    open_shop.options["keep_setuid"] = True
    path = open_shop.write("su")
    path.chmod(0o4755)
    os.chown(path, 0, 0)
    path.chmod(0o4755)

    told = as_nobody(open_shop)

    assert told.result is Result.SUCCESS
    assert stat.S_IMODE((open_shop.mirror / "su").stat().st_mode) == 0o755
    assert "owner" in {event.what for event in told.of(MetadataNotKept)}


@pytest.mark.parametrize("run", [Workshop.cycle, as_nobody])
def test_what_its_owner_may_not_write_gets_another_attribute_and_keeps_its_acl(
    open_shop: Workshop, run: Callable[[Workshop], Told]
) -> None:
    path = open_shop.write("file")
    with_acl(path)
    path.chmod(0o460)
    os.chown(path, NOBODY, NOBODY)
    run(open_shop)
    with_colour(path)

    told = run(open_shop)

    assert told.tally.updated == 1
    assert "acl" not in {event.what for event in told.of(MetadataNotKept)}
    assert attributes(open_shop.mirror / "file") == attributes(path)
    assert attributes(path).keys() == {ACCESS, "user.colour"}
    assert_mirrored(open_shop)


EXTREMES = {"before 1970": -5, "nanosecond": 1, "year 2200": 7_258_118_400 * 10**9 + 123_456_789}


@pytest.mark.parametrize("when", EXTREMES)
def test_times_far_away_are_kept_to_the_nanosecond_and_copied_once(shop: Workshop, when: str) -> None:
    mtime_ns = EXTREMES[when]
    path = shop.write("folder/file")
    (shop.source / "folder/link").symlink_to("file")
    for each in (path, shop.source / "folder/link", shop.source / "folder"):
        os.utime(each, ns=(0, mtime_ns), follow_symlinks=False)

    shop.cycle()

    assert_mirrored(shop)
    assert (shop.mirror / "folder/file").stat().st_mtime_ns == mtime_ns
    again = shop.cycle()
    assert (again.tally.copied, again.tally.updated) == (0, 0)
