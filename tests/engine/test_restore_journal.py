"""What a killed restore leaves in its target: the next one removes exactly that, and finishes the folders."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from job.engine.restore.journal import RestoreJournal, clean_up
from job.fs.dircursor import closing_fd
from tests.faults.rig import Rig
from tests.faults.tampering import injected
from tests.faults.trees import temps_below

PREFIX = b".truecopy-tmp-0123abcd"
JOURNAL = ".truecopy-tmp-0123abcd-0"
HEAD = b"truecopy restore 1\0"
TEMP = ".truecopy-tmp-0123abcd-1"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path / "rig")
    (rig.source / "folder" / "below").mkdir(parents=True)
    for number in range(3):
        (rig.source / "folder" / "below" / f"file {number}").write_text(f"content {number}")
    (rig.source / "folder" / "below").chmod(0o750)
    rig.once()
    return rig


@pytest.fixture
def journal(folder: int) -> Iterator[RestoreJournal]:
    """A journal of a restore to `tmp_path` that notes temps in its root, and that is killed by `end`."""
    with closing(_Ending(RestoreJournal(folder, PREFIX))) as ending:
        ending.journal.note_temps(b"")
        yield ending.journal


class _Ending:
    def __init__(self, journal: RestoreJournal) -> None:
        self.journal = journal

    def close(self) -> None:
        self.journal.end(is_clean=False)


def test_temps_of_its_number_in_its_folders_go_and_no_others(
    journal: RestoreJournal, folder: int, tmp_path: Path
) -> None:
    kept = [
        tmp_path / ".truecopy-tmp-0123abce-1",
        tmp_path / ".truecopy-tmp-0123abcd-notes",
        tmp_path / "not noted" / TEMP,
        tmp_path / "noted" / "file",
    ]
    gone = [tmp_path / TEMP, tmp_path / "noted" / TEMP]
    for path in [*kept, *gone]:
        path.parent.mkdir(exist_ok=True)
        path.write_text("content")
    (tmp_path / "noted" / ".truecopy-tmp-0123abcd-2").mkdir()
    journal.note_temps(b"noted")
    journal.note_temps(b"gone since")
    journal.end(is_clean=False)

    clean_up(folder)

    found = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert found == sorted(kept)
    assert sorted(each.name for each in (tmp_path / "noted").iterdir()) == ["file"]


def test_what_a_restore_makes_that_runs_is_left_alone(journal: RestoreJournal, folder: int, tmp_path: Path) -> None:
    (tmp_path / TEMP).write_text("half a cont")

    assert clean_up(folder) == {}
    assert sorted(each.name for each in tmp_path.iterdir()) == [JOURNAL, TEMP]
    journal.end(is_clean=True)
    assert [each.name for each in tmp_path.iterdir()] == [TEMP]


def test_an_entry_that_is_no_journal_is_left_alone(folder: int, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(HEAD + b"t\0")
    (tmp_path / TEMP).write_text("content")
    (tmp_path / JOURNAL).symlink_to("outside")
    (tmp_path / ".truecopy-tmp-0123abcd-00").write_bytes(HEAD + b"t\0")
    (tmp_path / ".truecopy-tmp-89abcdef-0").write_bytes(b"t\0of something else\0")
    (tmp_path / ".truecopy-tmp-89abcde0-0").write_bytes(b"without an end")
    os.mkfifo(tmp_path / ".truecopy-tmp-00000000-0")
    (tmp_path / ".truecopy-tmp-00000001-0").mkdir()
    before = sorted(tmp_path.iterdir())

    assert clean_up(folder) == {}
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.needs_root
def test_a_journal_of_another_user_is_left_alone(folder: int, tmp_path: Path) -> None:
    (tmp_path / TEMP).write_text("content")
    (tmp_path / JOURNAL).write_bytes(HEAD + b"t\0")
    os.chown(tmp_path / JOURNAL, 12345, 12345)

    assert clean_up(folder) == {}
    assert sorted(each.name for each in tmp_path.iterdir()) == [JOURNAL, TEMP]


def test_no_path_of_a_journal_leads_out_of_the_target(tmp_path: Path) -> None:
    target, outside = tmp_path / "target", tmp_path / "outside"
    for each in (target, outside):
        each.mkdir()
        (each / TEMP).write_text("content")
    (target / "link").symlink_to(outside)
    paths = [b"..", b"../outside", b"link", os.fsencode(outside), b"./../outside", b"link/..", b"//", b"\xff" * 300]
    (target / JOURNAL).write_bytes(HEAD + b"".join(b"t" + path + b"\0" for path in paths) + b"fxyz/a\0f12/b\0\0x\0t")

    with closing_fd(os.open(target, os.O_RDONLY | os.O_DIRECTORY)) as opened_target:
        made = clean_up(opened_target)

    assert made == {b"b": 0x12}
    assert [each.name for each in outside.iterdir()] == [TEMP]
    assert sorted(each.name for each in target.iterdir()) == [TEMP, "link"], "its last record was cut off"


def kill_restore(rig: Rig, call: str, number: int, *where: str) -> None:
    log = rig.base / "strace.log"
    done = rig.run("restore", *where, prefix=injected(call, f"signal=KILL:when={number}", log=log))
    assert done.code in {-signal.SIGKILL, 128 + signal.SIGKILL}, done


@pytest.mark.needs_tool("strace")
def test_what_a_killed_restore_left_in_a_source_is_in_no_backup_and_goes_with_the_next_restore(rig: Rig) -> None:
    for path in [*(rig.source / "folder" / "below").iterdir()]:
        path.unlink()
    kill_restore(rig, "renameat2", 2, "--in-place")
    left = temps_below(rig.source)

    backup = rig.once()
    again = rig.run("restore", "--in-place")

    assert len(left) > 1, "temps and a journal"
    assert backup.code == 0
    assert temps_below(rig.mirror) == []
    assert again.code == 0
    assert temps_below(rig.source) == []
    assert len(list((rig.source / "folder" / "below").iterdir())) == 3


@pytest.mark.needs_tool("strace")
def test_a_folder_that_is_left_closed_gets_its_mode_from_the_next_restore_and_one_of_the_user_does_not(
    rig: Rig,
) -> None:
    out = rig.base / "out"
    kill_restore(rig, "syncfs", 2, "--to", str(out))
    assert (out / "folder" / "below").stat().st_mode & 0o777 == 0o700
    (out / "folder").rename(out / "aside")
    (out / "folder").mkdir(mode=0o700)
    (out / "aside" / "below").rename(out / "folder" / "below")

    assert rig.run("restore", "--to", str(out)).code == 0

    assert (out / "folder" / "below").stat().st_mode & 0o777 == 0o750
    assert (out / "folder").stat().st_mode & 0o777 == 0o700


def test_a_restore_below_the_target_leaves_the_times_of_its_root(rig: Rig) -> None:
    out = rig.base / "out"
    (out / "folder").mkdir(parents=True)
    os.utime(out, ns=(10**18, 10**18))
    before = time.time()

    assert rig.run("restore", "--to", str(out)).code == 0

    assert out.stat().st_mtime_ns == 10**18 < before * 10**9
    assert (out / "folder" / "below").is_dir()
