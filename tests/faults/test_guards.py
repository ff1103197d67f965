"""The gate and the lock: every doubt about a pair ends in a refusal before anything is written."""

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.rig import Done, Rig, temps_in, until
from tests.faults.tampering import mounted
from tests.faults.trees import remove


@pytest.fixture(autouse=True)
def content(rig: Rig) -> None:
    (rig.source / "file").write_text("content")
    (rig.source / "folder").mkdir()
    (rig.source / "folder" / "file").write_text("content below")


def is_refused(done: Done, reason: str, sentence: str) -> None:
    told = done.the("pair_refused")
    assert (done.code, told["reason"]) == (4, reason)
    assert sentence in told["error"]
    assert told["hint"]
    assert done.the("pair_finished")["result"] == done.the("cycle_finished")["result"] == "refused"
    assert done.counts == (0, 0, 0, 0)


@contextmanager
def untouched(*folders: Path) -> Iterator[None]:
    """Insist that nothing in these folders changes."""
    before = [[(path, path.lstat()) for path in sorted(folder.rglob("*"))] for folder in folders]
    yield
    assert [[(path, path.lstat()) for path in sorted(folder.rglob("*"))] for folder in folders] == before


def test_a_missing_source_is_refused_and_told_in_the_metrics(rig: Rig) -> None:
    rig.once()
    rig.source.rename(rig.base / "elsewhere")
    before = rig.mirrored

    done = rig.once()

    is_refused(done, "source_missing", f"{rig.source} does not exist")
    assert rig.mirrored == before
    assert rig.metric("pairs_refused_total", reason="source_missing") == 1
    assert rig.metric("cycles_total", result="refused") == 1
    assert rig.metric("last_attempt_timestamp_seconds") > rig.metric("last_success_timestamp_seconds") > 0
    (rig.base / "elsewhere").rename(rig.source)


def test_a_source_that_is_a_file_is_refused(rig: Rig) -> None:
    rig.configure(source_dirs=[str(rig.source / "file")])

    with untouched(rig.mirror):
        done = rig.once()

    is_refused(done, "source_not_a_folder", "is not a folder")


def test_a_source_that_may_not_be_read_is_refused(rig: Rig, unprivileged: tuple[str, ...]) -> None:
    rig.source.chmod(0)

    done = rig.once(prefix=unprivileged)

    is_refused(done, "source_unreadable", "cannot be opened")


def test_an_empty_source_of_which_files_are_known_is_refused_and_the_mirror_left_alone(rig: Rig) -> None:
    rig.once()
    before = rig.mirrored
    remove(rig.source)
    rig.source.mkdir()

    done = rig.once()

    is_refused(done, "source_empty", "is empty, but 2 files of it are in the mirror")
    assert rig.mirrored == before


def test_an_empty_source_that_was_always_empty_is_mirrored_where_that_is_allowed(rig: Rig) -> None:
    remove(rig.source)
    rig.source.mkdir()
    rig.configure(allow_empty=True)

    done, again = rig.once(), rig.once()

    assert (done.code, again.code) == (0, 0)
    assert done.counts == (0, 0, 0, 0)


@pytest.mark.needs_root
def test_a_source_that_is_not_mounted_any_more_is_refused(rig: Rig) -> None:
    disk = rig.base / "disk"
    disk.mkdir()
    rig.configure(source_dirs=[str(disk)])
    with mounted("tmpfs", disk, "-t", "tmpfs"):
        (disk / "file").write_text("on the disk")
        first = rig.once()

    second = rig.once()

    assert first.copied == {"file"}
    is_refused(second, "source_empty", "is empty")
    assert (rig.mirror / "file").read_text() == "on the disk"


def test_a_known_mirror_that_is_missing_is_refused_and_never_made(rig: Rig) -> None:
    assert rig.once().code == 0
    remove(rig.mirror)

    done = rig.once()

    is_refused(done, "mirror_missing", f"{rig.mirror} does not exist")
    assert not rig.mirror.exists()


def test_a_mirror_that_is_a_file_is_refused(rig: Rig) -> None:
    rig.mirror.rmdir()
    rig.mirror.write_text("precious")

    done = rig.once()

    is_refused(done, "mirror_not_a_folder", "is not a folder")
    assert rig.mirror.read_text() == "precious"


@pytest.mark.needs_root
def test_a_mirror_of_somebody_else_is_refused(rig: Rig, unprivileged: tuple[str, ...]) -> None:
    os.chown(rig.mirror, 1234, 1234)

    done = rig.once(prefix=unprivileged)

    is_refused(done, "mirror_not_writable", "is not writable")


@pytest.mark.parametrize(
    ("source", "mirror"),
    [("source", "source"), ("source", "link"), ("source", "source/folder"), ("source/folder", "source")],
    ids=["same", "same through a link", "mirror in source", "source in mirror"],
)
def test_folders_that_are_one_or_lie_in_each_other_are_refused(rig: Rig, source: str, mirror: str) -> None:
    (rig.base / "link").symlink_to(rig.source)
    rig.configure(source_dirs=[str(rig.base / source)], dest_dirs=[str(rig.base / mirror)])

    with untouched(rig.source):
        done = rig.run("run", "--once")

    # The same path twice is seen in the config already, before anything is opened.
    if done.code == 2:
        assert done.stderr.startswith("error: ")
        assert str(rig.base / mirror) in done.stderr
    else:
        is_refused(done, "overlap", str(rig.base / mirror))


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("mount_what", "mount_at"),
    [("source", "mirror"), ("source/folder", "mirror"), ("source", "mirror/inner"), ("mirror", "source/folder")],
    ids=["same", "mirror is a folder of the source", "source mounted in the mirror", "mirror mounted in the source"],
)
def test_folders_bind_mounted_into_each_other_are_refused(rig: Rig, mount_what: str, mount_at: str) -> None:
    (rig.mirror / "inner").mkdir()

    with mounted(str(rig.base / mount_what), rig.base / mount_at, "--bind"), untouched(rig.source):
        done = rig.once()

    is_refused(done, "overlap", "")


def slow(rig: Rig, **options: object) -> None:
    """Make a run that lasts: 200 kB at 20 kB a second."""
    (rig.source / "a large one").write_bytes(bytes(200_000))
    rig.configure(rate_limit=20_000, **options)


def at_work(rig: Rig) -> None:
    until(lambda: temps_in(rig.mirror))


@pytest.mark.parametrize("other_state", [False, True], ids=["same state", "another state_dir"])
def test_a_second_instance_is_told_who_is_at_work_and_writes_nothing(rig: Rig, *, other_state: bool) -> None:
    slow(rig)
    with rig.started("run", "--once") as first:
        at_work(rig)
        before = {path.name for path in rig.mirror.iterdir()}
        if other_state:
            rig.configure(state_dir=str(rig.base / "another state"))
        done = rig.once()

        told = done.the("pair_busy")
        assert done.code == 75
        assert "another instance works on the mirror of source" in told["error"]
        assert other_state or f"process {first.process.pid}" in told["error"]
        assert {path.name for path in rig.mirror.iterdir()} == before
        assert rig.metric("cycles_total", result="busy") == 1


def test_a_kill_frees_the_lock_and_the_next_run_sweeps(rig: Rig) -> None:
    slow(rig)
    with rig.started("run", "--once") as first:
        at_work(rig)
        first.end(signal.SIGKILL)
    rig.configure()
    assert rig.temps

    done = rig.once()

    assert done.code == 0
    assert rig.mirrored == rig.wanted
    assert not rig.temps


def test_one_bad_pair_does_not_keep_the_other_from_being_copied(rig: Rig) -> None:
    missing = {"name": "bad", "source": str(rig.base / "missing"), "dest": str(rig.mirror)}
    good = rig.base / "good"
    good.mkdir()
    rig.configure(pairs=[missing, {"name": "good", "source": str(rig.source), "dest": str(good)}])

    done = rig.once()

    assert done.code == 4
    assert [(line["pair"], line["result"]) for line in done.of("pair_finished")] == [
        ("bad", "refused"),
        ("good", "success"),
    ]
    assert done.copied == {"file", "folder/file"}
    assert rig.metric("last_success_timestamp_seconds", pair="bad") == 0
    assert rig.metric("last_success_timestamp_seconds", pair="good") > 0


def test_with_a_state_dir_the_mirror_holds_nothing_but_its_identity_and_its_lock_besides(rig: Rig) -> None:
    state = rig.base / "not there yet" / "state"
    rig.configure(state_dir=str(state))

    done = rig.once()

    assert done.code == 0
    assert {path.name for path in rig.mirror.iterdir()} == {".truecopy", "file", "folder"}
    assert {path.name for path in rig.state.iterdir()} == {"identity.json", "lock"}
    assert {path.name for path in (state / "source").iterdir()} == {
        "README.txt",
        "identity.json",
        "history.sqlite3",
        "index.sqlite3",
        "mirror.json",
        "lock",
    }
    assert (state / "source").stat().st_mode & 0o777 == 0o700


def test_the_state_in_the_mirror_is_private(rig: Rig) -> None:
    rig.once()

    assert rig.state.stat().st_mode & 0o777 == 0o700
    for path in rig.state.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def truncated(index: Path) -> None:
    os.truncate(index, index.stat().st_size // 2 + 100)


def random_bytes(index: Path) -> None:
    index.write_bytes(b"\x00\xff" + os.urandom(20_000))


def torn_page(index: Path) -> None:
    with index.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(index.stat().st_size - 4096))


@pytest.mark.parametrize("damage", [truncated, random_bytes, torn_page])
def test_a_damaged_index_is_rebuilt_with_a_warning_and_nothing_is_copied(
    rig: Rig, damage: Callable[[Path], None]
) -> None:
    for number in range(300):
        (rig.source / "folder" / f"a file with a number {number}").write_text(f"{number}")
    rig.once()
    damage(rig.state / "index.sqlite3")

    done, again, last = rig.once(), rig.once(), rig.once()

    # Damage that is met in mid-run costs that cycle its commit, and the index is made anew by the next.
    assert done.code == 0 or (damage is torn_page and done.code == 3)
    assert (again.code, last.code) == (0, 0)
    assert done.the("index_rebuilt")["level"] == "warning"
    assert not done.copied | again.copied | last.copied
    assert not done.drift | again.drift | last.drift
    assert rig.mirrored == rig.wanted
    assert not last.of("index_rebuilt")


def test_a_lost_index_is_rebuilt_and_nothing_is_copied(rig: Rig) -> None:
    rig.once()
    remove(rig.state)

    done = rig.once()

    assert (done.code, done.counts) == (0, (0, 0, 2, 0))
    assert not done.drift


@pytest.mark.parametrize("pragma", ["user_version = 99", "application_id = 7"])
def test_an_index_of_another_format_or_program_is_refused(rig: Rig, pragma: str) -> None:
    rig.once()
    with sqlite3.connect(rig.state / "index.sqlite3") as index:
        index.execute(f"PRAGMA {pragma}")
    index.close()
    (rig.source / "file").write_text("newer")

    done = rig.once()

    is_refused(done, "state_unusable", "index.sqlite3")
    assert (rig.mirror / "file").read_text() == "content"


def test_a_hostile_index_leads_nowhere(rig: Rig) -> None:
    rig.once()
    with sqlite3.connect(rig.state / "index.sqlite3") as index:
        index.execute("""UPDATE records SET rows = '["..", [1,2,3,4,5,6,7], [1,2,3,4,5,6,7], "x:y", false]'""")
        index.execute("UPDATE folder SET stamp = 'not a stamp', entries = 'many'")
    index.close()

    done = rig.once()

    assert done.code == 0
    assert done.counts[0] == 0
    assert rig.mirrored == rig.wanted
    assert not (rig.base / "escape").exists()
