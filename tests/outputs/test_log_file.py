"""Files of lines: made and rotated without a line lost, and never a folder in or above a source or mirror."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from job.config.settings import LogRotate
from job.outputs.log_file import LineFile, is_one_file, why_no_log
from tests.faults.tampering import mounted

STRANGER = 65534


def numbered(*numbers: int) -> str:
    return "".join(f"line {number:06}\n" for number in numbers)


LINE = len(numbered(0))


def kept(path: Path) -> list[Path]:
    """Give a log and its old files that there are, the oldest first."""
    found = [path.with_name(f"{path.name}.{number}") for number in range(50, 0, -1)]
    return [each for each in (*found, path) if each.exists()]


def read(path: Path) -> str:
    return "".join(each.read_text("ascii") for each in kept(path))


# Rotation ------------------------------------------------------------------------------------------------------------


def test_a_file_gives_way_before_it_grows_beyond_its_size_and_so_many_old_ones_stay(tmp_path: Path) -> None:
    log = LineFile(str(tmp_path / "a.log"), rotation=LogRotate(3 * LINE, 2))

    for number in range(11):
        log.add(numbered(number))

    assert [each.name for each in kept(tmp_path / "a.log")] == ["a.log.2", "a.log.1", "a.log"]
    assert [each.read_text() for each in kept(tmp_path / "a.log")] == [
        numbered(3, 4, 5),
        numbered(6, 7, 8),
        numbered(9, 10),
    ]
    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}


def test_lines_that_come_together_stay_together_however_many(tmp_path: Path) -> None:
    log = LineFile(str(tmp_path / "a.log"), rotation=LogRotate(3 * LINE, 2))

    log.add(numbered(*range(10)))
    log.add(numbered(10))

    assert [each.read_text() for each in kept(tmp_path / "a.log")] == [numbered(*range(10)), numbered(10)]


def test_a_size_of_0_never_rotates(tmp_path: Path) -> None:
    log = LineFile(str(tmp_path / "a.log"))

    for number in range(100):
        log.add(numbered(number))

    assert [each.name for each in tmp_path.iterdir()] == ["a.log"]


def test_a_number_left_free_by_a_kill_costs_no_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LineFile(str(path), rotation=LogRotate(LINE, 3))
    for number in range(4):
        log.add(numbered(number))
    (tmp_path / "a.log.1").rename(tmp_path / "kept")  # as if killed after the second of three renames
    log.add(numbered(4))

    assert (tmp_path / "a.log.3").read_text() == numbered(0)
    assert (tmp_path / "a.log.2").read_text() == numbered(1)
    assert (tmp_path / "a.log.1").read_text() == numbered(3)
    assert path.read_text() == numbered(4)


def test_what_another_program_rotates_or_cuts_off_is_not_rotated_again(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LineFile(str(path), rotation=LogRotate(3 * LINE, 5))
    log.add(numbered(0, 1, 2))
    path.rename(tmp_path / "moved")
    log.add(numbered(3, 4, 5))
    os.truncate(path, 0)
    log.add(numbered(6))

    assert (tmp_path / "moved").read_text() == numbered(0, 1, 2)
    assert kept(path) == [path]
    assert path.read_text() == numbered(6)


def test_a_folder_in_the_way_of_a_rotation_is_told_and_no_line_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LineFile(str(path), rotation=LogRotate(LINE, 1))
    (tmp_path / "a.log.1").mkdir()
    log.add(numbered(0))

    with pytest.raises(OSError, match=r"a\.log cannot be rotated") as told:
        log.add(numbered(1))

    assert told.value.strerror == f"{path} cannot be rotated: Is a directory"
    assert path.read_text() == numbered(0, 1)
    (tmp_path / "a.log.1").rmdir()
    log.add(numbered(2))
    assert (tmp_path / "a.log.1").read_text() == numbered(0, 1)


def test_a_link_in_the_place_of_an_old_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "a.log.1").symlink_to(victim)
    log = LineFile(str(tmp_path / "a.log"), rotation=LogRotate(LINE, 1))

    log.add(numbered(0))
    log.add(numbered(1))

    assert victim.read_text() == "precious"
    assert not (tmp_path / "a.log.1").is_symlink()
    assert read(tmp_path / "a.log") == numbered(0, 1)


@pytest.mark.needs_root
def test_a_line_that_a_full_disk_tore_is_ended_in_the_file_it_began_in(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path / "disk", "-t", "tmpfs", "-o", "size=8k"):
        path = tmp_path / "disk/a.log"
        log = LineFile(str(path), rotation=LogRotate(9000, 5))
        log.add("x" * 4999 + "\n")  # two pages, which are all there is
        with pytest.raises(OSError, match="No space left"):
            log.add("y" * 3999 + "\n")
        subprocess.run(["mount", "-o", "remount,size=1m", str(path.parent)], check=True)
        many = numbered(*range(100))
        log.add(many)  # too many for the file, but for the line that is not ended
        log.add(numbered(100))

        told = [each.read_text() for each in kept(path)]

    assert told == ["x" * 4999 + "\n" + "y" * 3999 + "\n" + many, numbered(100)]


WRITER = """
import sys
from job.config.settings import LogRotate
from job.outputs.log_file import LineFile
path, first, count, size = sys.argv[1], *map(int, sys.argv[2:])
log = LineFile(path, rotation=LogRotate(size, 50))
for number in range(first, first + count):
    log.add(f"line {number:06}\\n")
"""


def write(path: Path, first: int, count: int, size: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(first), str(count), str(size)])


def test_two_processes_that_rotate_one_log_lose_and_tear_no_line(tmp_path: Path) -> None:
    path = tmp_path / "a.log"

    for writer in [write(path, first, 2000, 120 * LINE) for first in (0, 2000)]:
        assert writer.wait() == 0

    assert sorted(read(path).splitlines(keepends=True)) == numbered(*range(4000)).splitlines(keepends=True)


@pytest.mark.parametrize("milliseconds", range(0, 60, 10))
def test_a_kill_at_any_moment_leaves_every_line_that_was_written(tmp_path: Path, milliseconds: int) -> None:
    path = tmp_path / "a.log"
    with write(path, 0, 1_000_000, 20_000 * LINE) as writer:
        while not path.exists():
            time.sleep(0.005)
        time.sleep(milliseconds / 1000)
        writer.send_signal(signal.SIGKILL)
    with write(path, 500_000, 1, LINE) as last:
        assert last.wait() == 0

    told = read(path).splitlines(keepends=True)
    assert told == numbered(*range(len(told) - 1), 500_000).splitlines(keepends=True)


# Folders -------------------------------------------------------------------------------------------------------------


def test_one_missing_folder_is_made_and_no_more(tmp_path: Path) -> None:
    LineFile(str(tmp_path / "logs/a.log")).add(numbered(0))

    with pytest.raises(FileNotFoundError):
        LineFile(str(tmp_path / "two/levels/a.log")).add(numbered(0))

    assert (tmp_path / "logs/a.log").read_text() == numbered(0)
    assert [each.name for each in tmp_path.iterdir()] == ["logs"]


@pytest.mark.parametrize(
    ("root", "log"),
    [
        ("disk/mirror", "disk/mirror/a.log"),
        ("disk/mirror", "disk/mirror/logs/a.log"),
        ("disk/mirror", "disk/a.log"),
        ("disk/mirror/", "link/a.log"),
        ("link/mirror", "disk/mirror/a.log"),
        ("link", "disk/a.log"),
    ],
)
@pytest.mark.parametrize("there", ["nothing", "disk"])
def test_no_folder_is_made_in_or_above_a_missing_root(tmp_path: Path, root: str, log: str, there: str) -> None:
    (tmp_path / "link").symlink_to("disk")
    if there == "disk":
        (tmp_path / "disk").mkdir()
    before = sorted(tmp_path.rglob("*"))

    file = LineFile(str(tmp_path / log), roots=("/elsewhere", str(tmp_path / root)))
    if there == "disk" and log in {"disk/a.log", "link/a.log"}:
        file.add(numbered(0))  # beside the root, in a folder that is there
        return
    with pytest.raises(FileNotFoundError):
        file.add(numbered(0))

    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.needs_root
def test_a_link_of_another_user_on_the_way_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "logs").symlink_to("victim")
    os.chown(tmp_path / "logs", STRANGER, STRANGER, follow_symlinks=False)

    with pytest.raises(PermissionError) as told:
        LineFile(str(tmp_path / "logs/a.log")).add(numbered(0))

    assert told.value.strerror == f"{tmp_path}/logs is a link of user {STRANGER}, and only links of root are followed"
    assert why_no_log(str(tmp_path / "logs/a.log")).startswith(str(told.value.strerror))
    assert not list((tmp_path / "victim").iterdir())


@pytest.mark.needs_root
def test_a_link_that_is_planted_while_the_log_is_open_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "victim").mkdir()
    log = LineFile(str(tmp_path / "logs/a.log"))
    log.add(numbered(0))
    (tmp_path / "logs").rename(tmp_path / "moved")
    (tmp_path / "logs").symlink_to("victim")
    os.chown(tmp_path / "logs", STRANGER, STRANGER, follow_symlinks=False)

    with pytest.raises(PermissionError):
        log.add(numbered(1))

    assert not list((tmp_path / "victim").iterdir())


def test_own_links_to_the_folder_of_a_log_work(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "logs").symlink_to("real")

    LineFile(str(tmp_path / "logs/a.log")).add(numbered(0))
    LineFile(str(tmp_path / "logs/new/a.log")).add(numbered(1))

    assert (tmp_path / "real/a.log").read_text() == numbered(0)
    assert (tmp_path / "real/new/a.log").read_text() == numbered(1)
    assert why_no_log(str(tmp_path / "logs/a.log")) == ""


# Files of others -----------------------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    """Give why nothing was written, which a check without opening anything says, too."""
    before = path.read_bytes()
    with pytest.raises(PermissionError) as error:
        LineFile(str(path)).add(numbered(1))
    assert path.read_bytes() == before
    told = str(error.value.strerror)
    assert why_no_log(str(path)) == told.replace(str(path), "it")
    return told


@pytest.mark.needs_root
def test_a_file_of_another_user_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("theirs\n")
    os.chown(path, STRANGER, STRANGER)

    assert f"{path} belongs to user {STRANGER}" in refused(path)


@pytest.mark.needs_root
def test_a_file_of_root_that_a_user_may_write_to_is_a_log_for_that_user(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.touch(mode=0o666)
    path.chmod(0o666)
    tmp_path.chmod(0o755)
    os.seteuid(STRANGER)
    try:
        assert why_no_log(str(path)) == ""
    finally:
        os.seteuid(0)


def test_a_file_with_two_names_is_not_written_to_also_if_it_gets_the_second_later(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LineFile(str(path))
    log.add(numbered(1))
    os.link(path, tmp_path / "other")

    with pytest.raises(PermissionError, match="2 names"):
        log.add(numbered(2))
    assert "remove this name" in refused(path)

    (tmp_path / "other").unlink()
    log.add(numbered(3))
    assert path.read_text() == numbered(1, 3)


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("mode", "owner", "who"), [(0o777, 0, "everybody"), (0o755, STRANGER, f"user {STRANGER}"), (0o1777, 0, "")]
)
def test_a_file_that_others_read_is_no_log_where_they_may_exchange_names(
    tmp_path: Path, mode: int, owner: int, who: str
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    os.chown(folder, owner, owner)
    folder.chmod(mode)
    path = folder / "a.log"
    LineFile(str(path)).add(numbered(1))  # made for its owner only, as in an emptyDir of Kubernetes
    LineFile(str(path)).add(numbered(2))
    path.chmod(0o644)

    if who:
        assert f"mode 0644, and {who} may exchange the files in its folder; chmod 600" in refused(path)
    else:
        LineFile(str(path)).add(numbered(3))
    assert path.read_text().startswith(numbered(1, 2))


def test_what_lies_where_an_old_file_is_to_be_is_replaced_and_not_written_to(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "a.log.1").symlink_to(victim)
    os.link(victim, tmp_path / "a.log.2")
    log = LineFile(str(tmp_path / "a.log"), rotation=LogRotate(LINE, 3))

    for number in range(3):
        log.add(numbered(number))

    assert victim.read_text() == "precious"
    assert (tmp_path / "a.log").read_text() == numbered(2)


def test_one_file_is_known_however_its_path_is_written(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "link").symlink_to("logs")
    path = str(tmp_path / "logs/a.log")

    assert is_one_file(path, str(tmp_path / "link/a.log"))
    assert is_one_file(path, str(tmp_path / "logs/../logs/a.log"))
    assert is_one_file("/nowhere/a.log", "/nowhere/a.log")
    assert not is_one_file(path, str(tmp_path / "logs/b.log"))
    assert not is_one_file(path, "/nowhere/a.log")
