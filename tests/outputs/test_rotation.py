"""Who may keep a log from being rotated: another process of ours that rotates it, and nobody else."""

import fcntl
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from job.config.settings import LogRotate
from job.outputs.log_file import LineFile, alone
from tests.conftest import FOLDER

pytestmark = pytest.mark.usefixtures("no_leak")


def written(path: Path, lines: int) -> None:
    """Write so many lines to a log that takes two."""
    with closing(LineFile(str(path), rotation=LogRotate(20, 9))) as log:
        for number in range(lines):
            log.add(f"{number:08}\n")


def test_who_locks_a_log_that_all_may_read_keeps_it_from_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.touch()
    path.chmod(0o644)
    with path.open() as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        written(path, 5)

    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2"]


PLANTS: dict[str, Callable[[Path], object]] = {
    "folder": Path.mkdir,
    "link": lambda lock: lock.symlink_to("elsewhere"),
    "fifo": os.mkfifo,
    "file that all may open": lambda lock: lock.touch(mode=0o644),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_taken_name_is_passed_over(tmp_path: Path, plant: str) -> None:
    PLANTS[plant](tmp_path / ".a.log.lock")

    written(tmp_path / "a.log", 5)

    assert sorted(each.name for each in tmp_path.glob("a.log*")) == ["a.log", "a.log.1", "a.log.2"]
    assert not (tmp_path / "elsewhere").exists()


def test_while_one_process_rotates_a_log_no_other_does(tmp_path: Path) -> None:
    folder = os.open(tmp_path, FOLDER)
    try:
        with alone(b"a.log", folder):
            written(tmp_path / "a.log", 5)
            during = sorted(each.name for each in tmp_path.iterdir())
            assert (tmp_path / ".a.log.lock").stat().st_mode & 0o777 == 0o600
        with pytest.raises(BlockingIOError), alone(b"a.log", folder), alone(b"a.log", folder):
            pass
    finally:
        os.close(folder)

    assert during == [".a.log.lock", "a.log"]
    assert not (tmp_path / ".a.log.lock").exists()
