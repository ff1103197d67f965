"""What a cycle sees: edits that hide, mirrors that somebody touched, metadata without content."""

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from job.store.codec import decode_records, encode_records
from job.store.index_tree import ROOT
from tests.faults.rig import Rig
from tests.faults.trees import LONG_AGO_NS, entries_below


@pytest.fixture(autouse=True)
def mirrored(rig: Rig) -> None:
    """A tree that was mirrored once."""
    (rig.source / "sub").mkdir()
    for name in ("a", "b", "sub/c"):
        (rig.source / name).write_text(f"content of {name}")
        os.utime(rig.source / name, ns=(LONG_AGO_NS, LONG_AGO_NS))
    (rig.source / "link").symlink_to("a")
    assert rig.once().code == 0


@pytest.fixture
def settled(rig: Rig) -> None:
    """What is younger than two seconds is read again the next time, whatever the times say: wait, and let it happen."""
    time.sleep(2.1)
    assert rig.once().code == 0


@pytest.mark.usefixtures("settled")
def test_a_second_cycle_copies_nothing(rig: Rig) -> None:
    done = rig.once()

    assert (done.code, done.counts) == (0, (0, 0, 4, 0))
    assert done.the("cycle_finished")["skipped_by"] == {"unchanged": 4}
    assert (
        rig.metric("files_skipped_total", reason="unchanged") > rig.metric("last_cycle_files", outcome="skipped") == 4
    )


def test_counters_add_up_to_the_number_of_entries(rig: Rig) -> None:
    (rig.source / "new").write_text("new")
    (rig.source / "a").write_text("edited")
    (rig.source / "b").chmod(0o600)
    os.mkfifo(rig.source / "fifo")
    (rig.source / ".truecopy").write_text("reserved")

    done = rig.once()

    assert done.counts == (2, 1, 3, 1)
    assert sum(done.counts) == entries_below(rig.source) == done.the("cycle_finished")["entries"]


@pytest.mark.usefixtures("settled")
def test_an_edit_that_keeps_size_and_mtime_is_copied(rig: Rig) -> None:
    path = rig.source / "a"
    path.write_text(path.read_text().upper())
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))

    done = rig.once()

    assert (done.code, done.copied) == (0, {"a"})
    assert "ctime moved" in done.the("file_copied")["reason"]
    assert rig.mirrored == rig.wanted


def test_a_touch_that_changes_nothing_copies_nothing(rig: Rig) -> None:
    os.utime(rig.source / "a", ns=(LONG_AGO_NS, LONG_AGO_NS))

    done = rig.once()

    assert (done.code, done.counts) == (0, (0, 0, 4, 0))


def test_a_touch_that_moves_the_time_is_mirrored(rig: Rig) -> None:
    (rig.source / "a").touch()

    done = rig.once()

    assert done.code == 0
    assert rig.mirrored == rig.wanted


def mode(path: Path) -> None:
    path.chmod(0o640)


def xattr(path: Path) -> None:
    os.setxattr(path, "user.colour", b"blue")


def owner(path: Path) -> None:
    os.chown(path, 1234, 4321)


@pytest.mark.parametrize("change", [mode, xattr, pytest.param(owner, marks=pytest.mark.needs_root)])
def test_metadata_is_mended_without_copying(rig: Rig, change: Callable[[Path], None]) -> None:
    inode = (rig.mirror / "a").stat().st_ino
    change(rig.source / "a")

    done, again = rig.once(), rig.once()

    assert (done.code, done.counts) == (0, (0, 1, 3, 0))
    assert done.the("file_updated")["path"] == "a"
    assert (rig.mirror / "a").stat().st_ino == inode
    assert rig.mirrored == rig.wanted
    assert again.counts == (0, 0, 4, 0)
    assert rig.metric("files_updated_total") == 1


def shut(path: Path) -> None:
    path.chmod(0o500)


@pytest.mark.parametrize("change", [shut, xattr, pytest.param(owner, marks=pytest.mark.needs_root)])
def test_metadata_of_a_folder_is_mirrored(rig: Rig, change: Callable[[Path], None]) -> None:
    (rig.source / "sub").chmod(0o700)
    change(rig.source / "sub")

    done = rig.once()

    assert (done.code, done.copied) == (0, set())
    assert rig.mirrored == rig.wanted


def test_a_removed_xattr_leaves_the_mirror_too(rig: Rig) -> None:
    os.setxattr(rig.source / "a", "user.colour", b"blue")
    rig.once()
    os.removexattr(rig.source / "a", "user.colour")

    rig.once()

    assert rig.mirrored == rig.wanted


def test_a_renamed_file_is_copied_and_its_old_name_stays(rig: Rig) -> None:
    (rig.source / "a").rename(rig.source / "renamed")

    done = rig.once()

    assert (done.code, done.copied) == (0, {"renamed"})
    assert (rig.mirror / "renamed").read_text() == (rig.mirror / "a").read_text()


def test_a_file_that_took_the_name_of_another_by_rename_is_copied(rig: Rig) -> None:
    """As editors save: with the size and the times of the old one, only another inode."""
    fresh = rig.source / ".fresh"
    fresh.write_text((rig.source / "a").read_text().upper())
    os.utime(fresh, ns=(LONG_AGO_NS, LONG_AGO_NS))
    fresh.rename(rig.source / "a")

    done = rig.once()

    assert done.copied == {"a"}
    assert rig.mirrored == rig.wanted


def test_a_file_that_became_a_folder_and_a_folder_that_became_a_link_are_followed(rig: Rig) -> None:
    (rig.source / "a").unlink()
    (rig.source / "a").mkdir()
    (rig.source / "a" / "inner").write_text("inner")
    (rig.source / "link").unlink()
    (rig.source / "link").write_text("a file now")

    done = rig.once()

    assert done.code == 0
    assert rig.mirrored == rig.wanted


def test_a_link_that_leads_elsewhere_is_made_anew(rig: Rig) -> None:
    (rig.source / "link").unlink()
    (rig.source / "link").symlink_to("b")

    done = rig.once()

    assert done.copied == {"link"}
    assert rig.mirrored == rig.wanted


def test_a_file_missing_in_the_mirror_is_drift_and_comes_back(rig: Rig) -> None:
    (rig.mirror / "sub" / "c").unlink()

    done, again = rig.once(), rig.once()

    assert (done.code, done.copied, done.drift) == (0, {"sub/c"}, {"sub/c": "missing"})
    assert (again.copied, again.drift) == (set(), {})
    assert rig.mirrored == rig.wanted
    assert rig.metric("drift_found_total", kind="missing") == 1


def test_a_folder_missing_in_the_mirror_comes_back(rig: Rig) -> None:
    (rig.mirror / "sub" / "c").unlink()
    (rig.mirror / "sub").rmdir()

    done = rig.once()

    assert done.copied == {"sub/c"}
    assert rig.mirrored == rig.wanted


def test_a_file_replaced_in_the_mirror_is_drift_and_healed(rig: Rig) -> None:
    (rig.mirror / "fresh").write_text((rig.mirror / "a").read_text().upper())
    os.utime(rig.mirror / "fresh", ns=(LONG_AGO_NS, LONG_AGO_NS))
    (rig.mirror / "fresh").rename(rig.mirror / "a")

    done = rig.once()

    assert (done.code, done.copied, done.drift) == (0, {"a"}, {"a": "replaced"})
    assert rig.mirrored == rig.wanted


def test_a_link_replaced_in_the_mirror_is_drift_and_healed(rig: Rig) -> None:
    (rig.mirror / "link").unlink()
    (rig.mirror / "link").symlink_to("/etc/passwd")

    done = rig.once()

    assert (done.code, done.copied) == (0, {"link"})
    assert done.drift["link"] in {"replaced", "content"}  # the new link may have got the old one's inode
    assert rig.mirrored == rig.wanted


def edit_in_place(path: Path) -> None:
    """Edit as a user can: nothing but ctime tells."""
    with path.open("r+") as file:
        file.write("CONTENT")
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))


def test_an_edit_in_the_mirror_is_found_by_an_audit_in_every_cycle(rig: Rig) -> None:
    rig.configure(audit_interval=0)
    edit_in_place(rig.mirror / "a")

    done, again = rig.once(), rig.once()

    assert (done.code, done.copied, done.drift) == (0, {"a"}, {"a": "content"})
    assert (again.copied, again.drift) == (set(), {})
    assert rig.mirrored == rig.wanted
    assert rig.metric("drift_found_total", kind="content") == 1


def test_a_changed_mode_in_the_mirror_is_mended_by_an_audit(rig: Rig) -> None:
    rig.configure(audit_interval=0)
    (rig.mirror / "a").chmod(0o777)

    done = rig.once()

    assert (done.code, done.copied, done.drift) == (0, set(), {"a": "metadata"})
    assert rig.mirrored == rig.wanted


@pytest.mark.usefixtures("settled")
def test_an_edit_in_the_mirror_is_found_when_the_audit_is_due(rig: Rig) -> None:
    edit_in_place(rig.mirror / "a")
    early = rig.once()

    rig.configure(audit_interval="1s")
    time.sleep(1)
    due = rig.once()

    assert (early.the("pair_started")["audit"], early.drift) == (False, {})
    assert (due.the("pair_started")["audit"], due.drift) == (True, {"a": "content"})
    assert rig.mirrored == rig.wanted


def test_an_extra_file_in_the_mirror_is_left_alone(rig: Rig) -> None:
    (rig.mirror / "extra").write_text("nothing is deleted from a mirror")

    done = rig.once()

    assert (done.code, done.counts) == (0, (0, 0, 4, 0))
    assert (rig.mirror / "extra").exists()


def test_what_left_the_source_stays_in_the_mirror(rig: Rig) -> None:
    (rig.source / "a").unlink()

    done = rig.once()

    assert (done.code, done.counts) == (0, (0, 0, 3, 0))
    assert (rig.mirror / "a").exists()


def test_comparing_by_checksum_finds_an_edit_that_keeps_even_what_the_index_knows(rig: Rig) -> None:
    """As rot does: the index is made to believe in the mirror as it is now."""
    rig.configure(compare="checksum")
    edit_in_place(rig.mirror / "a")
    believe(rig, "a")

    done = rig.once()

    assert (done.code, done.copied, done.drift) == (0, {"a"}, {"a": "content"})
    assert rig.mirrored == rig.wanted


def believe(rig: Rig, name: str) -> None:
    """Write the mirror file's present ctime into the index, as if it had never moved."""
    seen = (rig.mirror / name).stat()
    index = sqlite3.connect(rig.state / "index.sqlite3")
    (rows,) = index.execute("SELECT rows FROM records WHERE folder = ?", (ROOT,)).fetchone()
    records = decode_records(rows)
    record = records[name.encode()]
    records[name.encode()] = record._replace(mirror=record.mirror._replace(ctime_ns=seen.st_ctime_ns))
    index.execute("UPDATE records SET rows = ? WHERE folder = ?", (encode_records(records.values()), ROOT))
    index.commit()
    index.close()


def test_another_checksum_algorithm_hashes_everything_once_and_copies_nothing(rig: Rig) -> None:
    rig.configure(checksum="blake3")

    done, again = rig.once(), rig.once()
    (rig.source / "new").write_text("new")
    copied = rig.once()

    assert (done.code, done.counts) == (0, (0, 0, 4, 0))
    assert again.counts == (0, 0, 4, 0)
    assert copied.the("file_copied")["checksum"].startswith("blake3:")


def test_excluded_and_stfolder_entries_are_out_of_scope(rig: Rig) -> None:
    for folder in (".stfolder", "sub/.stfolder", "build", "keep"):
        (rig.source / folder).mkdir()
        (rig.source / folder / "file").write_text("file")
        (rig.source / folder / "scratch.tmp").write_text("scratch")
    (rig.source / "keep" / ".stfolder").write_text("a file of that name is a file")
    rig.configure(exclude=["*.tmp", "/build/", "!important.tmp"])
    (rig.source / "important.tmp").write_text("important")

    done = rig.once()

    assert done.code == 0
    assert done.copied == {"keep/file", "keep/.stfolder", "important.tmp"}
    assert not (rig.mirror / "build").exists()
    assert not (rig.mirror / "sub" / ".stfolder").exists()


def test_excluding_later_leaves_what_is_in_the_mirror(rig: Rig) -> None:
    rig.configure(exclude=["a"])
    (rig.source / "a").write_text("edited")

    done = rig.once()

    assert (done.code, done.counts) == (0, (0, 0, 3, 0))
    assert (rig.mirror / "a").read_text() == "content of a"
