"""Sources that move while they are read, edits that hide, extreme times, entries that nobody may change."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.rig import Rig, temps_in, until
from tests.faults.tampering import mounted
from tests.faults.trees import LONG_AGO_NS, remove

SLOW = 100_000
"""Bytes that take a second at this rate limit."""
alone = pytest.mark.one_process
"""A limit of the rate is kept by one process."""


@pytest.fixture
def slow(rig: Rig) -> Rig:
    """A rig with a file whose copy leaves a second to change others, and the copies of those from before."""
    for name in ("z file", "z folder/file"):
        (rig.source / name).parent.mkdir(exist_ok=True)
        (rig.source / name).write_text("before")
    rig.once()
    for name in ("z file", "z folder/file"):
        (rig.source / name).write_text("newer content")
    (rig.source / "a slow one").write_bytes(bytes(SLOW * 3))
    rig.configure(rate_limit=SLOW)
    return rig


SWAPS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "link": lambda place: place.symlink_to("/etc/passwd"),
    "folder": lambda place: (place / "below").mkdir(parents=True),
    "other file": lambda place: place.write_text("another one"),
}


@alone
@pytest.mark.parametrize("swap", SWAPS)
def test_a_file_that_becomes_something_else_before_its_turn_is_neither_followed_nor_waited_for(
    slow: Rig, swap: str
) -> None:
    with slow.started("run", "--once") as running:
        until(lambda: temps_in(slow.mirror))
        (slow.source / "z file").unlink()
        SWAPS[swap](slow.source / "z file")
        code = running.process.wait(60)
        done = {line["path"]: line.get("reason") for line in running.lines if line["event"] == "file_failed"}
    between = (slow.mirror / "z file").read_text()
    slow.configure(specials="recreate")
    again = slow.once()

    assert (code, done) in [(0, {}), (3, {"z file": "changed_during_copy"}), (3, {"z file": "type_conflict"})]
    assert between == ("another one" if swap == "other file" else "before")
    assert again.code == 0
    assert (slow.mirror / "z file").lstat().st_mode == (slow.source / "z file").lstat().st_mode
    assert slow.mirrored == slow.wanted


@alone
def test_a_folder_that_vanishes_before_its_turn_is_no_failure_and_its_mirror_stays(slow: Rig) -> None:
    with slow.started("run", "--once") as running:
        until(lambda: temps_in(slow.mirror))
        remove(slow.source / "z folder")
        code = running.process.wait(60)

    assert code == 0
    assert (slow.mirror / "z folder/file").read_text() == "before"
    assert (slow.mirror / "z file").read_text() == "newer content"


def test_edits_in_the_same_tick_as_the_copy_are_copied_though_size_and_time_are_kept(rig: Rig) -> None:
    path = rig.source / "edited"
    for number in range(5):
        path.write_text(f"content {number}")
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))

        done = rig.once()

        assert (done.code, done.copied) == (0, {"edited"})
        assert (rig.mirror / "edited").read_text() == f"content {number}"


@pytest.mark.usefixtures("rig")
def test_the_touch_of_another_file_hides_no_edit(rig: Rig) -> None:
    for name in ("edited", "reference"):
        (rig.source / name).write_text("the same")
        os.utime(rig.source / name, ns=(LONG_AGO_NS, LONG_AGO_NS))
    rig.once()
    (rig.source / "edited").write_text("not same")
    subprocess.run(["touch", "-r", rig.source / "reference", rig.source / "edited"], check=True)

    done = rig.once()

    assert done.copied == {"edited"}
    assert (rig.source / "edited").stat().st_mtime_ns == LONG_AGO_NS
    assert rig.mirrored == rig.wanted


TIMES = {
    "before 1970": -5,
    "1901": -(1 << 31) * 10**9,
    "2038": (1 << 31) * 10**9 + 1,
    "2200": 7_258_118_400 * 10**9 + 123_456_789,
    "2446": 15_032_385_535 * 10**9 + 999_999_999,
}


def test_times_at_the_ends_of_what_there_is_are_kept_and_copied_once(rig: Rig) -> None:
    for name, time_ns in TIMES.items():
        (rig.source / name).mkdir()
        (rig.source / name / "file").write_text(name)
        (rig.source / name / "link").symlink_to(name)
        for each in ("link", "file", "."):
            os.utime(rig.source / name / each, ns=(time_ns, time_ns), follow_symlinks=False)

    first = rig.once()
    for name in TIMES:
        (rig.source / name / "file").chmod(0o600)
    second, third, compared = rig.once(), rig.once(), rig.run("compare")

    assert [each.code for each in (first, second, third, compared)] == [0] * 4
    assert (first.counts[0], second.counts[:2], third.counts[:2]) == (10, (0, 5), (0, 0))
    assert rig.mirrored == rig.wanted


@pytest.fixture
def bolted(rig: Rig) -> Iterator[Callable[[str, Path], None]]:
    """Give a function that locks entries of the mirror against everybody, root included, on a file system that can."""
    image = rig.base / "disk.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    locked: list[Path] = []

    def bolt(how: str, path: Path) -> None:
        subprocess.run(["chattr", f"+{how}", str(path)], check=True)
        locked.append(path)

    with mounted(str(image), rig.mirror, "-o", "loop"):
        yield bolt
        for path in locked:
            subprocess.run(["chattr", "-ia", str(path)], check=True)


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.ext4")
@pytest.mark.needs_tool("chattr")
@pytest.mark.parametrize("how", ["i", "a"], ids=["immutable", "append-only"])
def test_entries_of_the_mirror_that_cannot_be_changed_fail_by_name_and_the_others_go_on(
    rig: Rig, bolted: Callable[[str, Path], None], how: str
) -> None:
    shutil.rmtree(rig.mirror / "lost+found")
    for name in ("file", "mended", "other", "locked/file", "locked/kept", "open/file"):
        (rig.source / name).parent.mkdir(exist_ok=True)
        (rig.source / name).write_text("before")
    rig.once()
    for name in ("file", "other", "locked/file", "open/file"):
        (rig.source / name).write_text("newer")
    (rig.source / "mended").chmod(0o600)
    for name in ("file", "mended", "locked"):
        bolted(how, rig.mirror / name)

    done, again = rig.once(), rig.once()
    held = {path.decode(): thing for path, thing in rig.mirrored.items()}
    for name in ("file", "mended", "locked"):
        subprocess.run(["chattr", f"-{how}", str(rig.mirror / name)], check=True)
    healed = rig.once()

    rig.names(done, "file", "permission")
    assert {"file", "locked/file"} <= done.failed.keys() <= {"file", "mended", "locked", "locked/file"}
    assert set(done.failed.values()) == {"permission"}
    # In a folder that only takes new names, temps can be made and neither renamed nor swept: then it fails as a whole.
    assert {"file"} < again.failed.keys() <= {"file", "mended", "locked", "locked/file"}
    assert (again.code, set(again.failed.values())) == (3, {"permission"})
    assert {"other", "open/file"} == done.copied
    assert held["file"].content != held["other"].content == held["open/file"].content
    assert healed.code == 0
    assert rig.mirrored == rig.wanted


@alone
def test_a_run_killed_in_a_read_only_folder_leaves_no_loose_mode_for_long(
    rig: Rig, unprivileged: tuple[str, ...]
) -> None:
    folder = rig.source / "read-only"
    folder.mkdir()
    (folder / "file").write_bytes(bytes(SLOW * 20))
    folder.chmod(0o555)
    rig.configure(rate_limit=SLOW)

    with rig.started("run", "--once") as running:
        until(lambda: (rig.mirror / "read-only").is_dir() and temps_in(rig.mirror / "read-only"))
        killed, _ = running.end(signal.SIGKILL)
    loose = (rig.mirror / "read-only").stat().st_mode & 0o777
    rig.configure()
    done = rig.once(prefix=unprivileged)

    assert killed == -signal.SIGKILL
    assert loose == 0o700, "nobody else may enter before it has its own mode"
    assert done.code == 0
    assert rig.mirrored == rig.wanted
    assert not rig.temps
