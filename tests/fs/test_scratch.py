"""A folder for large files without a name: nobody knows its name before, and nothing is left of it for long."""

import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from job.fs.private_folders import ScratchFolder

pytestmark = pytest.mark.usefixtures("no_leak")

HOLDER = """
import os, signal
from job.fs.private_folders import ScratchFolder
scratch = ScratchFolder(os.environ)
scratch.folder()
print("made", flush=True)
signal.pause()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_is_made_for_us_alone_when_it_is_asked_for_and_removed_at_the_end(tmp_path: Path) -> None:
    scratch = ScratchFolder({"TMPDIR": str(tmp_path)})
    before = names(tmp_path)
    with closing(scratch):
        folder = scratch.folder()
        (name,) = names(tmp_path)
        assert os.fstat(folder).st_mode & 0o7777 == 0o700
        assert scratch.folder() == folder

    assert before == names(tmp_path) == []
    assert re.fullmatch("truecopy-scratch-[0-9a-f]{16}", name)


def test_one_that_was_cleaned_up_is_made_anew(tmp_path: Path) -> None:
    with closing(ScratchFolder({"TMPDIR": str(tmp_path)})) as scratch:
        scratch.folder()
        (tmp_path / names(tmp_path)[0]).rmdir()

        assert os.fstat(scratch.folder()).st_nlink
        assert len(names(tmp_path)) == 1


def test_one_that_a_killed_run_left_is_removed_by_the_next_and_one_in_use_is_not(tmp_path: Path) -> None:
    environ = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", HOLDER], env=environ, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        (theirs,) = names(tmp_path)
        with closing(ScratchFolder(environ)) as scratch:
            scratch.folder()
            beside = names(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        left = names(tmp_path)
        with closing(ScratchFolder(environ)) as scratch:
            scratch.folder()
            after = names(tmp_path)

    assert theirs in beside
    assert len(beside) == 2
    assert left == [theirs]
    assert theirs not in after
    assert len(after) == 1


def test_what_only_has_such_a_name_and_holds_anything_stays(tmp_path: Path) -> None:
    kept = tmp_path / "truecopy-scratch-full"
    kept.mkdir()
    (kept / "file").touch()
    (tmp_path / "truecopy-scratch-file").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "truecopy-scratch-link").symlink_to("elsewhere")
    before = names(tmp_path)

    with closing(ScratchFolder({"TMPDIR": str(tmp_path)})) as scratch:
        scratch.folder()

    assert names(tmp_path) == before


def test_the_first_folder_that_can_be_written_to_is_taken(tmp_path: Path) -> None:
    environ = {"SQLITE_TMPDIR": "/nonexistent", "TMPDIR": str(tmp_path)}
    with closing(ScratchFolder(environ)) as scratch:
        scratch.folder()

        assert len(names(tmp_path)) == 1
