"""A source that is mounted nodev or nosuid: what has no effect there gets none in the mirror, and that is told."""

import os
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.core.outcome import Result, Skip
from job.events.pair import FileUpdated, MetadataNotKept
from tests.engine.test_tree_compare import compared, told
from tests.engine.workshop import Told, Workshop, assert_mirrored
from tests.faults.tampering import mounted

pytestmark = pytest.mark.needs_root

MAY_BIND_LOW_PORTS = struct.pack("<5I", 0x02000000, 1 << 10, 0, 0, 0)
RESTRICTED = "nodev,nosuid"


@pytest.fixture
def stick(shop: Workshop) -> Iterator[Workshop]:
    """A file system in the source with a device, a setuid program with two names and one with a capability."""
    shop.options |= {"specials": "recreate", "keep_setuid": True, "keep_security": True}
    at = shop.source / "stick"
    with mounted("tmpfs", at, "-t", "tmpfs", "-o", f"mode=755,{RESTRICTED}"):
        os.mknod(at / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        os.mkfifo(at / "fifo")
        (at / "program").write_text("program")
        (at / "program").chmod(0o4755)
        (at / "tool").write_text("tool")
        (at / "tool").chmod(0o6755)
        (at / "same").hardlink_to(at / "tool")
        (at / "server").write_text("server")
        os.setxattr(at / "server", "security.capability", MAY_BIND_LOW_PORTS)
        (at / "shared").mkdir()
        (at / "shared").chmod(0o2775)
        yield shop


def remount(shop: Workshop, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", shop.source / "stick"], check=True)


def kinds(found: Told) -> list[str]:
    return sorted(event.what for event in found.of(MetadataNotKept))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def has_effect(shop: Workshop) -> set[str]:
    """Name what in the mirror has an effect that not every file has."""
    found, mirror = set(), shop.mirror / "stick"
    for path in mirror.iterdir():
        seen = path.lstat()
        if stat.S_ISCHR(seen.st_mode) or (stat.S_ISREG(seen.st_mode) and seen.st_mode & 0o6000):
            found.add(path.name)
        if stat.S_ISREG(seen.st_mode) and "security.capability" in os.listxattr(path):
            found.add(path.name)
    return found


ALL = {"zero", "program", "tool", "same", "server"}


def test_nothing_has_an_effect_in_the_mirror_that_it_has_not_in_the_source(stick: Workshop) -> None:
    first, second = stick.cycle(), stick.cycle()

    assert first.result is second.result is Result.SUCCESS
    assert has_effect(stick) == set()
    assert kinds(first) == ["nodev", "nosuid"]
    assert first.tally.skipped_by[Skip.UNSUPPORTED] == 1
    assert stat.S_ISFIFO((stick.mirror / "stick/fifo").lstat().st_mode)
    assert mode(stick.mirror / "stick/shared") == 0o2775
    assert not second.copied
    assert not second.of(FileUpdated)


def test_workers_see_how_it_is_mounted_too(stick: Workshop) -> None:
    stick.options |= {"workers": 3, "workers_from": 0}

    assert stick.cycle().result is Result.SUCCESS
    assert has_effect(stick) == set()


def test_a_source_mounted_without_these_options_has_everything_kept(stick: Workshop) -> None:
    remount(stick, "dev,suid")

    found = stick.cycle()

    assert has_effect(stick) == ALL
    assert kinds(found) == []
    assert_mirrored(stick)


def test_a_mirror_in_which_they_have_an_effect_is_healed_and_the_change_back_too(stick: Workshop) -> None:
    remount(stick, "dev,suid")
    stick.cycle()
    remount(stick, RESTRICTED)

    healed = stick.cycle()

    assert healed.result is Result.SUCCESS
    assert has_effect(stick) == set()
    assert b"stick/zero" in {event.path for event in healed.of(FileUpdated)}
    remount(stick, "dev,suid")
    assert stick.cycle().result is Result.SUCCESS
    assert has_effect(stick) == ALL
    assert_mirrored(stick)


def test_a_bind_mount_counts_by_its_own_options(shop: Workshop) -> None:
    shop.options |= {"keep_setuid": True}
    (shop.write("plain/program")).chmod(0o4755)
    (shop.source / "bound").mkdir()
    with mounted(str(shop.source / "plain"), shop.source / "bound", "-o", "bind,nosuid"):
        # Which options a bind mount has of its own is set by a second call where mount(8) is old.
        subprocess.run(["mount", "-o", "remount,bind,nosuid", shop.source / "bound"], check=True)
        shop.cycle()

        assert mode(shop.mirror / "plain/program") == 0o4755
        assert mode(shop.mirror / "bound/program") == 0o755


def test_a_comparison_and_a_plan_expect_the_same(stick: Workshop) -> None:
    planned = {each.path: each.action for each in stick.plan()}
    stick.cycle()

    found = told(stick)

    assert set(found.values()) == {"unsupported"}
    assert found[b"stick/zero"] == "unsupported"
    assert planned[b"stick/zero"] == "note"
    assert planned[b"stick/fifo"] == "copy"


def test_a_setuid_bit_in_the_mirror_is_a_difference(stick: Workshop) -> None:
    stick.cycle()
    (stick.mirror / "stick/program").chmod(0o4755)

    assert (b"stick/program", "mode") in {(each.path, each.what) for each in compared(stick)}
