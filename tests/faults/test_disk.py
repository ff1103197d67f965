"""Mirrors that are full, read-only or failing: what could be copied is, the rest is named, old copies stay."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from job.core.retention import FLOOR
from tests.faults.rig import Done, Rig, temps_in, until
from tests.faults.tampering import injected, mounted, ordinal, remount, traced

needs_strace = pytest.mark.needs_tool("strace")


@pytest.fixture
def tmpfs(rig: Rig) -> Iterator[Callable[[str], Path]]:
    """Give a function that mounts a small tmpfs over the mirror."""
    mounts = []

    def mount(options: str) -> Path:
        mounts.append(mounted("tmpfs", rig.mirror, "-t", "tmpfs", "-o", options))
        return mounts[-1].__enter__()

    yield mount
    for each in mounts:
        each.__exit__(None, None, None)


@pytest.mark.needs_root
def test_a_file_too_large_for_the_mirrors_disk_is_named_and_the_others_are_copied(
    rig: Rig, tmpfs: Callable[[str], Path]
) -> None:
    tmpfs("size=3m")
    for name in ("a", "large", "z"):
        (rig.source / name).write_text(f"old {name}")
    rig.once()
    (rig.source / "large").write_bytes(bytes(5 << 20))
    (rig.source / "a").write_text("newer a")
    (rig.source / "zz").write_text("new")

    done = rig.once()

    rig.names(done, "large", "no_space")
    assert done.copied == {"a", "zz"}
    assert (rig.mirror / "large").read_text() == "old large"
    assert (rig.mirror / "a").read_text() == "newer a"
    assert not rig.temps
    (rig.source / "large").write_text("small again")
    assert rig.once().code == 0
    assert rig.mirrored == rig.wanted


@pytest.mark.needs_root
@pytest.mark.parametrize("state", ["in the mirror", "elsewhere"])
def test_a_mirror_filled_to_the_brim_keeps_what_it_has(rig: Rig, tmpfs: Callable[[str], Path], state: str) -> None:
    tmpfs("size=2m")
    # The newest version folders never give way: with them the disk would stay full.
    rig.configure(versions=False, **({"state_dir": str(rig.base / "state")} if state == "elsewhere" else {}))
    (rig.source / "old").write_text("old")
    rig.once()
    (rig.source / "old").write_text("newer")
    for number in range(50):
        (rig.source / f"file {number:02}").write_bytes(os.urandom(50_000))

    done, again = rig.once(), rig.once()

    assert (done.code, again.code) == (3, 3)
    assert set(done.failed.values()) == set(again.failed.values()) == {"no_space"}
    assert 10 < len(done.copied) < 40
    assert done.copied | done.failed.keys() == {os.fsdecode(path) for path in rig.wanted} - {""}
    assert (rig.mirror / "old").read_text() in {"old", "newer"}
    assert not rig.temps
    wanted = rig.wanted
    for path, thing in rig.mirrored.items():
        assert thing.kind == "d" or thing.content == wanted[path].content or path == b"old"
    for number in range(20):
        (rig.source / f"file {number:02}").write_bytes(b"")
        (rig.source / f"file {number + 20}").write_bytes(b"")
    last = rig.once()
    assert last.code == 0, last.stdout[-1500:]
    assert rig.mirrored == rig.wanted


@pytest.mark.needs_root
@pytest.mark.parametrize("state", ["in the mirror", "elsewhere"])
def test_a_mirror_filled_to_the_brim_by_versions_takes_all_that_fits(
    rig: Rig, tmpfs: Callable[[str], Path], state: str
) -> None:
    tmpfs("size=4m")
    place = {"state_dir": str(rig.base / "state")} if state == "elsewhere" else {}
    rig.configure(versions={"most": "100 %"}, **place)
    for _ in range(20):
        for number in range(5):
            (rig.source / f"file {number}").write_bytes(os.urandom(50_000))
        done = rig.once()
        assert done.code == 0, done.stdout[-1500:]
        assert rig.mirrored == rig.wanted
        assert not rig.temps

    # What the newest cycles replaced stays, whatever has no room for it.
    (rig.source / "large").write_bytes(os.urandom(3_000_000))
    done = rig.once()
    assert done.failed == {"large": "no_space"}
    assert len([*(rig.state / "versions").iterdir()]) >= FLOOR


@pytest.mark.needs_root
@pytest.mark.parametrize("state", ["in the mirror", "elsewhere"])
def test_a_mirror_without_room_for_names_names_the_files(rig: Rig, tmpfs: Callable[[str], Path], state: str) -> None:
    tmpfs("size=10m,nr_inodes=30")
    if state == "elsewhere":
        rig.configure(state_dir=str(rig.base / "state"))
    for number in range(50):
        (rig.source / f"file {number:02}").write_text(f"{number}")

    done = rig.once()

    assert done.code == 3
    assert set(done.failed.values()) == {"no_space"}
    assert rig.metric("files_failed_total", reason="no_space") == len(done.failed)
    assert done.copied == {os.fsdecode(path) for path in rig.mirrored} - {""}
    assert len(done.copied) > 5
    assert not rig.temps


@pytest.mark.needs_root
def test_a_read_only_mirror_is_refused(rig: Rig, tmpfs: Callable[[str], Path]) -> None:
    tmpfs("size=1m")
    (rig.source / "file").write_text("one")
    rig.once()
    (rig.source / "file").write_text("two!")
    remount(rig.mirror, "ro")

    done = rig.once()
    remount(rig.mirror, "rw")
    healed = rig.once()

    assert done.code == 4
    assert done.the("pair_refused")["reason"] == "mirror_read_only"
    assert "read-only file system" in done.the("pair_refused")["error"]
    assert (healed.code, healed.copied) == (0, {"file"})


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.ext4")
@pytest.mark.parametrize("state", ["in the mirror", "elsewhere"])
def test_a_mirror_that_turns_read_only_in_mid_run_fails_the_pair(rig: Rig, state: str) -> None:
    image = rig.base / "disk.img"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", str(image)], check=True)
    rig.configure(rate_limit=200_000, **({"state_dir": str(rig.base / "state")} if state == "elsewhere" else {}))
    for name in ("a", "b", "c"):
        (rig.source / name).write_bytes(bytes(100_000))

    with mounted(str(image), rig.mirror, "-o", "loop"), rig.started("run", "--once") as running:
        until(lambda: temps_in(rig.mirror))
        remount(rig.mirror, "abort")
        code = running.process.wait(60)
        failed = running.wait_for("pair_failed")

    assert code == 1
    assert "turned read-only" in failed["error"]
    assert failed["hint"]


@needs_strace
@pytest.mark.parametrize(
    "call",
    [
        "openat",
        "rename,renameat,renameat2",
        *(pytest.param(call, marks=pytest.mark.slow) for call in ("write", "fchmod", "utimensat")),
    ],
)
def test_a_call_that_meets_a_read_only_mirror_never_ends_in_success(rig: Rig, call: str) -> None:
    (rig.source / "file").write_text("old")
    rig.configure(state_dir=str(rig.base / "state"))
    rig.once()
    (rig.source / "file").write_text("newer")
    if call == "fchmod":
        (rig.source / "file").chmod(0o1644)  # no plain file, which has its mode from the start
    if call in {"write", "fchmod", "utimensat"}:
        number = at(rig, call, ".truecopy-tmp-")
        (rig.source / "file").write_text("newest")
        fault = injected(call, f"error=EROFS:when={number}", log=rig.base / "strace.log")
    else:
        paths = (rig.mirror,)
        fault = injected(
            call, "error=EROFS:when=3+" if call == "openat" else "error=EROFS", log=rig.base / "strace.log", paths=paths
        )
    old = (rig.mirror / "file").read_text()

    done = rig.once(prefix=fault)

    assert done.code in {1, 3, 4}, done
    assert (rig.mirror / "file").read_text() == old
    assert rig.once().code == 0
    assert rig.mirrored == rig.wanted
    assert not rig.temps


def at(rig: Rig, call: str, text: str) -> int:
    """Find, by a run that is only watched, which call of a kind is the first with `text` in it."""
    log = rig.base / "watched.log"
    rig.once(prefix=traced(call, log=log))
    return ordinal(log, call, text)


@needs_strace
def test_a_failing_sync_renames_nothing_and_the_next_run_copies(rig: Rig) -> None:
    (rig.source / "file").write_text("old")
    rig.once()
    (rig.source / "file").write_text("newer")
    (rig.source / "new").write_text("new")

    done = rig.once(prefix=injected("syncfs", "error=EIO", log=rig.base / "strace.log"))

    rig.names(done, "file", "sync")
    rig.names(done, "new", "sync")
    assert not done.copied
    assert (rig.mirror / "file").read_text() == "old"
    assert not (rig.mirror / "new").exists()
    assert not rig.temps
    assert rig.once().copied == {"file", "new"}
    assert rig.mirrored == rig.wanted


@pytest.mark.one_process
@needs_strace
def test_a_second_sync_that_fails_reports_nothing_as_copied(rig: Rig) -> None:
    (rig.source / "file").write_text("one")

    done = rig.once(prefix=injected("syncfs", "error=EIO:when=2", log=rig.base / "strace.log"))
    again = rig.once()

    rig.names(done, "file", "sync")
    assert not done.copied
    assert again.code == 0
    assert not again.drift
    assert rig.mirrored == rig.wanted


@pytest.mark.one_process
@needs_strace
@pytest.mark.parametrize(
    ("error", "reason"),
    [("EIO", "io_error"), ("ENOSPC", "no_space"), pytest.param("EDQUOT", "no_space", marks=pytest.mark.slow)],
)
def test_a_write_error_is_named_and_the_old_copy_stays(rig: Rig, error: str, reason: str) -> None:
    if error != "EIO":
        rig.configure(verify_copies="readback")  # without the loop for plain files, which leaves them one more try
    (rig.source / "file").write_text("old")
    rig.once()
    (rig.source / "file").write_text("newer")
    number = at(rig, "write", ".truecopy-tmp-")
    (rig.source / "file").write_text("the newest")
    (rig.source / "new").symlink_to("file")  # a new file would be written first

    done = rig.once(prefix=injected("write", f"error={error}:when={number}", log=rig.base / "strace.log"))

    rig.names(done, "file", reason)
    assert done.copied == {"new"}
    assert (rig.mirror / "file").read_text() == "newer"
    assert not rig.temps
    assert rig.once().code == 0
    assert rig.mirrored == rig.wanted


@pytest.mark.one_process
@needs_strace
def test_a_new_file_without_room_in_the_loop_for_plain_files_has_one_more_try(rig: Rig) -> None:
    (rig.source / "old").write_text("old")
    rig.once()
    (rig.source / "newer").write_text("newer")
    number = at(rig, "write", ".truecopy-tmp-")

    def with_errors(tries: str) -> Done:
        (rig.source / f"new {tries}").write_text("new")
        return rig.once(prefix=injected("write", f"error=ENOSPC:when={tries}", log=rig.base / "strace.log"))

    once, twice = with_errors(f"{number}"), with_errors(f"{number}..{number + 1}")

    assert (once.code, once.failed, once.copied) == (0, {}, {f"new {number}"})
    rig.names(twice, f"new {number}..{number + 1}", "no_space")
    assert not rig.temps
    assert rig.once().code == 0
    assert rig.mirrored == rig.wanted


def test_a_file_beyond_the_largest_size_is_named_and_the_others_are_copied(rig: Rig) -> None:
    (rig.source / "large").write_bytes(bytes(3 << 20))
    (rig.source / "small").write_text("small")

    done = rig.once(limit=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))

    rig.names(done, "large", "too_large")
    assert done.copied == {"small"}
    assert not rig.temps


def lied_to(rig: Rig, fault: str) -> Done:
    """Copy a new file of 6 bytes while the write of its content is falsified."""
    (rig.source / "file").write_text("old")
    rig.once()
    (rig.source / "file").write_text("newer!")
    number = at(rig, "write", ".truecopy-tmp-")
    (rig.source / "file").write_text("newest")
    return rig.once(prefix=injected("write", f"{fault}:when={number}", log=rig.base / "strace.log"))


@pytest.mark.one_process
@needs_strace
def test_reading_back_catches_a_disk_that_stored_something_else(rig: Rig) -> None:
    rig.configure(verify_copies="readback")

    done = lied_to(rig, "poke_enter=@arg2=ff")

    rig.names(done, "file", "verify_mismatch")
    assert (rig.mirror / "file").read_text() == "newer!"
    assert not rig.temps
    assert rig.once().copied == {"file"}
    assert rig.mirrored == rig.wanted


@pytest.mark.one_process
@needs_strace
@pytest.mark.parametrize("verify", ["hash", pytest.param("readback", marks=pytest.mark.slow)])
def test_a_write_that_was_acknowledged_but_never_made_is_caught(rig: Rig, verify: str) -> None:
    rig.configure(verify_copies=verify)

    done = lied_to(rig, "retval=6")

    assert done.code == 3
    assert done.failed.keys() == {"file"}
    assert (rig.mirror / "file").read_text() == "newer!"
    assert rig.once().copied == {"file"}
    assert rig.mirrored == rig.wanted
