"""Mirrors on disks that are not Linux's own: what they cannot hold is told, and nothing is done twice."""

import os
import socket
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.faults.trees import entries_below, temps_below
from tests.fidelity import foreign
from tests.fidelity.scope import ACCESS, acl
from tests.fidelity.small import YOUNG_SECONDS, not_kept, nothing_done, rig_in

DISKS = [
    pytest.param(foreign.exfat, marks=foreign.EXFAT, id="exfat"),
    pytest.param(foreign.ntfs, marks=foreign.NTFS, id="ntfs"),
]
exfat_only = pytest.mark.parametrize("disk", DISKS[:1])
ntfs_only = pytest.mark.parametrize("disk", DISKS[1:])


def mounted(base: Path, disk: foreign.Mounting) -> AbstractContextManager[Path]:
    return disk(base / "mirror", base / "image")


@pytest.mark.parametrize("disk", DISKS)
def test_a_second_cycle_copies_nothing_and_nor_does_one_after_the_disk_was_plugged_in_again(
    tmp_path: Path, disk: foreign.Mounting
) -> None:
    with mounted(tmp_path, disk):
        rig = rig_in(tmp_path, aged=True)
        first = rig.once()
        assert first.counts == (5, 0, 0, 0), first.stdout
        assert first.code == 0
        nothing_done(rig.once(), 5)
    with mounted(tmp_path, disk):
        nothing_done(rig.once(), 5)


@pytest.mark.parametrize("disk", DISKS)
def test_an_edit_is_copied_once(tmp_path: Path, disk: foreign.Mounting) -> None:
    with mounted(tmp_path, disk):
        rig = rig_in(tmp_path)
        rig.once()
        (rig.source / "plain").write_text("PLAIN")
        assert rig.once().copied == {"plain"}
        time.sleep(YOUNG_SECONDS)
        rig.once()  # it was young
        nothing_done(rig.once(), 5)
        assert (rig.mirror / "plain").read_text() == "PLAIN"


@pytest.mark.parametrize("disk", DISKS)
def test_mode_and_owner_that_were_taken_and_not_kept_are_told(tmp_path: Path, disk: foreign.Mounting) -> None:
    with mounted(tmp_path, disk):
        done = rig_in(tmp_path).once()
        assert not_kept(done) == {"mode", "owner"}


@exfat_only
def test_a_name_that_exfat_cannot_hold_fails_as_a_name_and_its_neighbours_are_copied(
    tmp_path: Path, disk: foreign.Mounting
) -> None:
    with mounted(tmp_path, disk):
        rig = rig_in(tmp_path)
        names = ["colon:name", "quest?ion", "new\nline"]
        for name in names:
            (rig.source / name).write_text(name)
        (Path(os.fsdecode(os.fsencode(rig.source) + b"/bad\xff"))).write_text("bad")
        done = rig.once()
        assert len(done.copied) == 5
        assert done.failed == dict.fromkeys(["colon:name", "quest?ion", "new\\nline", "bad\\xff"], "name")
        assert done.code == 3
        assert temps_below(rig.mirror) == []


@exfat_only
def test_a_special_file_that_exfat_cannot_hold_leaves_nothing_behind(tmp_path: Path, disk: foreign.Mounting) -> None:
    with mounted(tmp_path, disk):
        rig = rig_in(tmp_path)
        rig.configure(specials="recreate")
        os.mkfifo(rig.source / "fifo")
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(os.path.relpath(rig.source / "socket"))
        done = rig.once()
        assert done.code == 0
        assert done.the("pair_finished")["skipped_by"] == {"unsupported": 2}
        assert "specials" in not_kept(done)
        assert temps_below(rig.mirror) == []


@exfat_only
def test_hard_links_become_copies_on_exfat_and_new_inode_numbers_are_no_drift(
    tmp_path: Path, disk: foreign.Mounting
) -> None:
    with mounted(tmp_path, disk):
        rig = rig_in(tmp_path)
        os.link(rig.source / "plain", rig.source / "plain too")
        time.sleep(YOUNG_SECONDS)
        first = rig.once()
        assert first.counts == (6, 0, 0, 0), first.stdout
        assert "hard_links" in not_kept(first)
        nothing_done(rig.once(), 6)
    with mounted(tmp_path, disk):
        (rig.mirror / "another").touch()  # so that numbers are given in another order
        nothing_done(rig.once(), 6)
        (rig.mirror / "plain too").unlink()
        assert rig.once().drift == {"plain too": "missing"}


@exfat_only
def test_a_name_of_a_linked_file_that_went_missing_is_counted_as_drift_once(
    tmp_path: Path, disk: foreign.Mounting
) -> None:
    with mounted(tmp_path, disk):
        rig = rig_in(tmp_path)
        os.link(rig.source / "plain", rig.source / "plain too")
        rig.once()
        (rig.mirror / "plain too").unlink()
        assert len(rig.once().of("drift_found")) == 1


@ntfs_only
def test_ntfs_keeps_links_attributes_fifos_holes_and_both_forms_of_a_name(
    tmp_path: Path, disk: foreign.Mounting
) -> None:
    with mounted(tmp_path, disk):
        rig = rig_in(tmp_path)
        rig.configure(specials="recreate")
        os.link(rig.source / "plain", rig.source / "plain too")
        (rig.source / "link").symlink_to("plain")
        os.mkfifo(rig.source / "fifo")
        os.setxattr(rig.source / "plain", "user.colour", b"blue")
        for name in ("e\u0301", "\u00e9", "Case", "case", "dot.", "space ", "colon:name"):
            (rig.source / name).write_text(name)
        with (rig.source / "sparse").open("wb") as file:
            file.seek(3 << 20)
            file.write(b"end")
        done = rig.once()
        assert done.code == 0
        assert done.counts[3] == 0
        assert (rig.mirror / "plain").stat().st_ino == (rig.mirror / "plain too").stat().st_ino
        assert os.getxattr(rig.mirror / "plain", "user.colour") == b"blue"
        assert (rig.mirror / "sparse").stat().st_blocks * 512 < 3 << 20
        assert (rig.mirror / "e\u0301").read_text() == "e\u0301"
        time.sleep(YOUNG_SECONDS)
        rig.once()
        nothing_done(rig.once(), entries_below(rig.source))


@ntfs_only
def test_an_acl_that_ntfs_takes_and_forgets_is_told_and_is_no_update_ever_after(
    tmp_path: Path, disk: foreign.Mounting
) -> None:
    with mounted(tmp_path, disk):
        rig = rig_in(tmp_path)
        os.setxattr(rig.source / "plain", ACCESS, acl(4))
        assert "acl" in not_kept(rig.once())
        nothing_done(rig.once(), 5)  # it was young, and is held against its mirror again


@pytest.mark.parametrize("disk", [pytest.param(foreign.fat, marks=foreign.FAT, id="fat")])
def test_files_whose_times_a_rename_moves_are_put_right_in_the_next_cycle(
    tmp_path: Path, disk: foreign.Mounting
) -> None:
    with disk(tmp_path / "disk", tmp_path / "image"):
        rig = rig_in(tmp_path)
        mirror = tmp_path / "disk" / "mirror"
        mirror.mkdir()
        rig.configure(dest_dirs=[str(mirror)], audit_interval=0)
        first = rig.once()
        assert first.code == 3
        assert set(first.failed.values()) == {"type_conflict"}
        assert rig.once().counts == (0, 5, 0, 0)
        nothing_done(rig.once(), 5)
        assert (mirror / "folder" / "deeper" / "file").read_text() == "deeper"
