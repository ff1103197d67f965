"""One entry in trouble: it is named in log, metric and exit code, and every other entry is copied."""

import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.rig import Rig, temps_in, until
from tests.faults.tampering import injected
from tests.faults.trees import entries_below


@pytest.fixture(autouse=True)
def healthy(rig: Rig) -> None:
    """Two files that have to arrive in every test here."""
    (rig.source / "a healthy").write_text("healthy")
    (rig.source / "z").mkdir()
    (rig.source / "z" / "healthy too").write_text("healthy too")


def holds_the_healthy(rig: Rig) -> None:
    for path in (b"a healthy", b"z/healthy too"):
        assert rig.mirrored[path] == rig.wanted[path]
    assert not rig.temps


@pytest.mark.needs_root  # to see what the run may not
def test_an_unreadable_file_is_named_and_its_old_copy_stays(rig: Rig, unprivileged: tuple[str, ...]) -> None:
    (rig.source / "locked").write_text("old")
    rig.once()
    (rig.source / "locked").write_text("newer")
    (rig.source / "locked").chmod(0)
    (rig.source / "new").write_text("new")

    done = rig.once(prefix=unprivileged)

    rig.names(done, "locked", "permission")
    assert done.copied == {"new"}
    assert (rig.mirror / "locked").read_text() == "old"
    holds_the_healthy(rig)


def test_an_unreadable_file_is_named_in_every_cycle_until_it_is_readable(
    rig: Rig, unprivileged: tuple[str, ...]
) -> None:
    (rig.source / "locked").write_text("locked")
    (rig.source / "locked").chmod(0)
    first, second = rig.once(prefix=unprivileged), rig.once(prefix=unprivileged)

    (rig.source / "locked").chmod(0o600)
    third = rig.once(prefix=unprivileged)

    assert first.failed == second.failed == {"locked": "permission"}
    assert (second.code, third.code, third.copied) == (3, 0, {"locked"})
    assert rig.mirrored == rig.wanted


@pytest.mark.needs_root  # to see what the run may not
def test_an_unreadable_folder_is_named_and_its_mirror_left_alone(rig: Rig, unprivileged: tuple[str, ...]) -> None:
    (rig.source / "private").mkdir()
    (rig.source / "private" / "kept").write_text("kept")
    rig.once(prefix=unprivileged)
    (rig.source / "private").chmod(0)
    (rig.source / "new").write_text("new")

    done, again = rig.once(prefix=unprivileged), rig.once(prefix=unprivileged)

    rig.names(done, "private", "permission")
    assert again.failed == {"private": "permission"}
    assert done.copied == {"new"}
    assert (rig.mirror / "private" / "kept").read_text() == "kept"
    holds_the_healthy(rig)


@pytest.mark.needs_root  # to see what the run may not
def test_a_folder_that_can_be_listed_but_not_entered_names_each_file(rig: Rig, unprivileged: tuple[str, ...]) -> None:
    (rig.source / "listed").mkdir()
    (rig.source / "listed" / "file").write_text("unknown")
    (rig.source / "listed").chmod(0o600)

    done = rig.once(prefix=unprivileged)

    rig.names(done, "listed/file", "permission")
    holds_the_healthy(rig)


def test_read_only_folders_of_a_mirror_are_written_and_read_only_again(rig: Rig, unprivileged: tuple[str, ...]) -> None:
    folder = rig.source / "read-only"
    folder.mkdir()
    (folder / "file").write_text("one")
    folder.chmod(0o555)
    rig.once(prefix=unprivileged)
    folder.chmod(0o755)
    (folder / "file").write_text("two!")
    folder.chmod(0o555)

    done = rig.once(prefix=unprivileged)

    assert (done.code, done.copied) == (0, {"read-only/file"})
    assert rig.mirrored == rig.wanted


def test_a_source_that_is_itself_read_only_is_mirrored_again_and_again(rig: Rig, unprivileged: tuple[str, ...]) -> None:
    (rig.source / "file").write_text("one")
    rig.source.chmod(0o555)
    rig.once(prefix=unprivileged)
    (rig.source / "file").write_text("two!")

    done = rig.once(prefix=unprivileged)

    assert (done.code, done.copied) == (0, {"file"})
    assert rig.mirrored == rig.wanted


@pytest.mark.needs_root
def test_root_copies_what_nobody_may_read(rig: Rig) -> None:
    (rig.source / "dark").mkdir()
    (rig.source / "dark" / "file").write_text("dark")
    (rig.source / "dark" / "file").chmod(0)
    (rig.source / "dark").chmod(0)

    first, second = rig.once(), rig.once()

    assert (first.code, second.code) == (0, 0)
    assert rig.mirrored == rig.wanted
    assert second.counts[0] == 0


@pytest.fixture
def restless(rig: Rig) -> Iterator[Path]:
    """A file that a thread overwrites all the time, keeping its size; its first copy is `old`."""
    path = rig.source / "restless"
    path.write_text("old")
    rig.once()
    path.write_bytes(bytes(24 << 20))
    done = threading.Event()

    def overwrite() -> None:
        with path.open("r+b", buffering=0) as file:
            number = 0
            while not done.wait(0.001):
                number += 1
                file.seek((number * 7919 * 4096) % (24 << 20))
                file.write(b"%d" % number)

    writer = threading.Thread(target=overwrite)
    writer.start()
    yield path
    done.set()
    writer.join()


def test_a_file_that_changes_all_the_time_is_named_and_its_old_copy_stays(rig: Rig, restless: Path) -> None:
    (rig.source / "new").write_text("new")

    done = rig.once()

    rig.names(done, restless.name, "changed_during_copy")
    assert (rig.mirror / restless.name).read_text() == "old"
    assert "new" in done.copied
    holds_the_healthy(rig)


def test_fifos_sockets_and_devices_are_counted_and_never_opened(rig: Rig) -> None:
    os.mkfifo(rig.source / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(rig.source / "socket"))
    devices = os.geteuid() == 0
    if devices:
        os.mknod(rig.source / "device", stat.S_IFCHR | 0o666, os.makedev(1, 5))

    first, second = rig.once(), rig.once()

    assert (first.code, second.code) == (0, 0)
    assert {path.name for path in rig.mirror.iterdir()} == {"a healthy", "z", ".truecopy"}
    for done in (first, second):
        assert done.the("cycle_finished")["skipped_by"]["special_file"] == 2 + devices
        assert sum(done.counts) == entries_below(rig.source)
    assert rig.metric("files_skipped_total", reason="special_file") == 2 * (2 + devices)


@pytest.mark.one_process  # which keep the rate limit
def test_a_file_that_vanishes_before_its_turn_is_no_failure(rig: Rig) -> None:
    rig.configure(rate_limit=20_000)
    (rig.source / "a slow one").write_bytes(bytes(100_000))
    (rig.source / "vanishing").write_text("gone before it is opened")

    with rig.started("run", "--once") as running:
        until(lambda: temps_in(rig.mirror))
        (rig.source / "vanishing").unlink()
        summary = running.wait_for("cycle_finished")
        code = running.process.wait()

    assert code == 0
    assert summary["skipped_by"] == {"vanished": 1}
    holds_the_healthy(rig)


@pytest.mark.needs_tool("strace")
def test_a_disk_error_while_reading_is_named_and_the_old_copy_stays(rig: Rig) -> None:
    path = rig.source / "rotten"
    path.write_text("old")
    rig.once()
    path.write_text("newer")

    done = rig.once(prefix=injected("read,readv", "error=EIO:when=1+", log=rig.base / "strace.log", paths=(path,)))

    rig.names(done, "rotten", "io_error")
    assert (rig.mirror / "rotten").read_text() == "old"
    holds_the_healthy(rig)
    assert rig.once().copied == {"rotten"}


def test_links_that_loop_or_lead_out_are_copied_as_text(rig: Rig) -> None:
    (rig.source / "loop").symlink_to("loop")
    (rig.source / "parent").symlink_to("..")
    (rig.source / "out").symlink_to("/etc")
    for number in range(41):
        (rig.source / f"chain-{number}").symlink_to(f"chain-{number + 1}")

    done = rig.once()

    assert done.code == 0
    assert rig.mirrored == rig.wanted


@pytest.fixture
def victim(rig: Rig) -> Iterator[Path]:
    """A folder outside of everything, in which nothing may change."""
    folder = rig.base / "victim"
    folder.mkdir()
    (folder / "file").write_text("victim")
    (folder / "z").mkdir()
    before = [(path, path.lstat()) for path in (folder, folder / "file", folder / "z")]
    yield folder
    for path, seen in before:
        now = path.lstat()
        assert (now.st_mode, now.st_size, now.st_mtime_ns, now.st_ctime_ns) == (
            seen.st_mode,
            seen.st_size,
            seen.st_mtime_ns,
            seen.st_ctime_ns,
        )
    assert sorted(os.listdir(folder)) == ["file", "z"]


@pytest.mark.parametrize("first_run", [True, False], ids=["known", "unknown"])
def test_links_planted_at_final_names_are_replaced_and_nothing_behind_them_is_touched(
    rig: Rig, victim: Path, *, first_run: bool
) -> None:
    if first_run:
        rig.once()
        (rig.mirror / "a healthy").unlink()
        (rig.mirror / "z" / "healthy too").unlink()
        (rig.mirror / "z").rmdir()
    (rig.mirror / "a healthy").symlink_to(victim / "file")
    (rig.mirror / "z").symlink_to(victim / "z")

    done = rig.once()

    assert done.code == 0
    assert rig.mirrored == rig.wanted


@pytest.mark.parametrize("planted", ["fifo", "folder", "full folder", "device"])
def test_other_things_planted_at_a_final_name_are_replaced_or_told(rig: Rig, planted: str) -> None:
    target = rig.mirror / "a healthy"
    if planted == "fifo":
        os.mkfifo(target)
    elif planted == "device":
        if os.geteuid() != 0:
            pytest.skip("has to be root")
        os.mknod(target, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    else:
        target.mkdir()
    if planted == "full folder":
        (target / "precious").write_text("nothing is deleted from a mirror")

    done = rig.once()

    assert done.code == 0
    assert rig.mirrored == rig.wanted
    if planted == "full folder":
        version = rig.mirror / done.the("folder_retired")["version"]
        assert (version / "precious").exists()


def test_links_planted_at_names_of_temps_are_swept_and_not_followed(rig: Rig, victim: Path) -> None:
    (rig.mirror / ".truecopy-tmp-0-1").symlink_to(victim / "file")
    os.mkfifo(rig.mirror / ".truecopy-tmp-0-2")

    done = rig.once()

    assert done.code == 0
    assert rig.mirrored == rig.wanted
    assert not rig.temps


def test_a_planted_state_folder_is_refused_and_not_followed(rig: Rig, victim: Path) -> None:
    (rig.mirror / ".truecopy").symlink_to(victim)

    done = rig.once()

    assert done.code == 4
    assert done.the("pair_refused")["reason"] == "state_unusable"
    assert {path.name for path in rig.mirror.iterdir()} == {".truecopy"}


@pytest.mark.parametrize("name", ["index.sqlite3", "lock", "history.sqlite3", "README.txt"])
def test_links_planted_in_the_state_folder_are_not_followed(rig: Rig, victim: Path, name: str) -> None:
    rig.once()
    (rig.state / name).unlink()
    (rig.state / name).symlink_to(victim / "file")

    done = rig.once()

    assert (done.code, [line["reason"] for line in done.of("pair_refused")]) in [(0, []), (4, ["state_unusable"])]


@pytest.mark.parametrize("name", [".truecopy", ".truecopy-tmp-mine"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_names_that_are_kept_for_truecopy_are_named_and_the_rest_is_copied(rig: Rig, name: str, kind: str) -> None:
    if kind == "file":
        (rig.source / name).write_text("mine")
    else:
        (rig.source / name).mkdir()
        (rig.source / name / "index.sqlite3").write_text("mine")

    done, again = rig.once(), rig.once()

    rig.names(done, name, "reserved_name")
    assert again.failed == {name: "reserved_name"}
    assert done.copied == {"a healthy", "z/healthy too"}
    holds_the_healthy(rig)


@pytest.mark.needs_tool("strace")
def test_a_mode_of_a_folder_that_could_not_be_set_is_told_and_set_by_the_next_run(rig: Rig) -> None:
    (rig.source / "sub").mkdir(mode=0o700)
    (rig.source / "sub/file").write_text("content")
    time.sleep(2.1)  # what is younger would be looked at again in any case
    rig.once()
    (rig.source / "sub").chmod(0o755)

    done = rig.once(prefix=injected("fchmod,fchmodat,chmod", "error=EACCES", log=rig.base / "strace.log"))
    then = (rig.mirror / "sub").stat().st_mode & 0o777
    again = rig.once()

    assert (done.code, again.code) == (0, 0)
    assert done.the("metadata_not_kept")["what"] == "mode"
    assert then == 0o700
    assert rig.mirrored == rig.wanted


@pytest.mark.needs_tool("strace")
@pytest.mark.parametrize("updated", [False, True], ids=["copied", "updated"])
def test_a_mode_that_could_not_be_set_is_told_and_set_by_the_next_run(rig: Rig, *, updated: bool) -> None:
    if updated:
        (rig.source / "file").write_text("content")
    rig.once()  # without a fault: the file system is found to keep modes
    (rig.source / "file").write_text("content")
    # No mode that a file is created with, because of the umask.
    (rig.source / "file").chmod(0o604 if updated else 0o666)
    time.sleep(2.1)  # what is younger would be looked at again in any case

    done = rig.once(prefix=injected("fchmod,fchmodat,chmod", "error=EACCES", log=rig.base / "strace.log"))
    then = (rig.mirror / "file").stat().st_mode & 0o777
    again = rig.once()

    assert (done.code, again.code) == (0, 0)
    assert done.the("metadata_not_kept")["what"] == "mode"
    assert then == 0o600
    assert rig.mirrored == rig.wanted
    assert rig.once().counts[0] == 0
