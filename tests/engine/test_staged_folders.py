"""New folders of plain files are staged whole and get their places by one rename; what is unusual is not staged."""

import errno
import multiprocessing.popen_fork  # noqa: F401  # an ordinary user may not read where it lies, once it is needed
import os
import stat
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from job.core.outcome import Failure, Result
from job.engine.copy.batch import MOST_FILES
from job.engine.copy.cleanup import sweep_folder
from job.events.pair import FoldersUnchanged
from job.fs.dircursor import DirCursor, open_root
from job.fs.large_dir import staged_prefix
from job.fs.small_copies import SMALL_BYTES
from tests.engine.interference import at, failing, interfered
from tests.engine.workshop import NOBODY, Workshop, as_nobody, assert_mirrored, with_sync

OF_NOW = staged_prefix("cycle").decode()
"""The beginning of names of folders that a workshop's cycles stage."""


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Give the names of folders that were placed by one rename."""
    names: list[bytes] = []
    rename = os.rename

    def listened(old: Any, new: Any, **folders: int) -> None:
        is_staged = os.fsdecode(old).startswith(OF_NOW)
        rename(old, new, **folders)
        names.extend([new] if is_staged else [])

    monkeypatch.setattr(os, "rename", listened)
    return names


def folders_unchanged(shop: Workshop) -> int:
    """Tell how many folders the next cycle passes over, without an audit."""
    shop.options["audit_interval"] = 3600
    told = shop.cycle()
    assert told.result is Result.SUCCESS
    return sum(event.folders for event in told.of(FoldersUnchanged))


@pytest.mark.one_process
def test_a_new_folder_of_plain_files_gets_its_place_by_one_rename(shop: Workshop, placed: list[bytes]) -> None:
    for name in ("new/a", "new/b", "above/file", "above/deep/a"):
        shop.write(name, f"content of {name}")
    (shop.source / "new/a").chmod(0o664)
    (shop.source / "empty").mkdir(mode=0o750)

    told = shop.cycle()

    assert (told.result, told.tally.copied, told.tally.folders) == (Result.SUCCESS, 4, 5)
    assert sorted(placed) == [b"deep", b"empty", b"new"]
    assert_mirrored(shop)
    assert not shop.temps
    assert folders_unchanged(shop) == 5


UNUSUAL: dict[str, Callable[[Path], object]] = {
    "symlink": lambda folder: (folder / "link").symlink_to("plain"),
    "hard link": lambda folder: (folder / "second").hardlink_to(folder / "plain"),
    "subfolder": lambda folder: (folder / "below").mkdir(),
    "large file": lambda folder: (folder / "large").write_bytes(bytes(SMALL_BYTES + 1)),
    "attribute": lambda folder: os.setxattr(folder / "plain", "user.mark", b"1"),
    "attribute of the folder": lambda folder: os.setxattr(folder, "user.mark", b"1"),
    "pipe": lambda folder: os.mkfifo(folder / "pipe"),
    "holes": lambda folder: os.truncate(folder / "plain", 100_000),
}


@pytest.mark.one_process
@pytest.mark.parametrize("form", UNUSUAL)
def test_a_folder_with_anything_unusual_is_not_staged(shop: Workshop, placed: list[bytes], form: str) -> None:
    shop.write("new/plain")
    UNUSUAL[form](shop.source / "new")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert b"new" not in placed
    assert not shop.temps
    assert_mirrored(shop)


@pytest.mark.one_process
def test_a_folder_that_was_mirrored_once_is_not_staged_as_what_is_missing_is_told(
    shop: Workshop, placed: list[bytes]
) -> None:
    shop.write("old/file")
    shop.cycle()
    (shop.mirror / "old/file").unlink()
    (shop.mirror / "old").rmdir()
    placed.clear()

    told = shop.cycle()

    assert told.drift == {"missing": 1}
    assert not placed


@pytest.mark.parametrize("workers", [1, 2])
def test_folders_above_have_their_times_again_although_others_were_placed_in_them_later(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr("job.engine.copy.batch.MOST_FILES", 3)
    for number in range(40):
        shop.write(f"above/{number:02}/a")
        shop.write(f"above/{number:02}/b")
    shop.write("above/file")
    shop.options = {"workers": workers, "workers_from": 0}

    told = shop.cycle()

    assert (told.result, told.tally.copied, told.tally.folders) == (Result.SUCCESS, 81, 42)
    assert_mirrored(shop)
    assert folders_unchanged(shop) == 42


@pytest.mark.one_process
def test_what_another_program_puts_into_the_place_of_a_folder_stays_in_it(shop: Workshop, placed: list[bytes]) -> None:
    shop.write("new/a")
    last = shop.write("new/b")
    theirs = shop.mirror / "new/@eaDir"

    def index_it(_: Path) -> None:
        theirs.mkdir(exist_ok=True)
        (theirs / "thumbnail").write_text("theirs")

    told = shop.cycle(interfered(at(last, index_it, last)))

    assert (told.result, told.tally.copied) == (Result.SUCCESS, 2)
    assert not placed
    kept = list(shop.mirror.rglob("thumbnail"))
    assert [path.read_text() for path in kept] == ["theirs"]
    assert folders_unchanged(shop) == 1  # it stays closed until what is not in the source is set aside
    assert_mirrored(shop)
    assert not shop.temps


@pytest.mark.one_process
def test_a_staged_folder_into_which_another_program_puts_a_folder_stays_nowhere_else(shop: Workshop) -> None:
    shop.write("new/a")
    last = shop.write("new/b")

    def index_them(_: Path) -> None:
        for folder in shop.mirror.iterdir():
            if folder != shop.state:
                (folder / "@eaDir").mkdir(exist_ok=True)
                (folder / "@eaDir/thumbnail").write_text("theirs")

    told = shop.cycle(interfered(at(last, index_them, last)))

    assert (told.result, set(told.copied)) == (Result.SUCCESS, {b"new/a", b"new/b"})
    assert sorted(os.listdir(shop.mirror)) == [".truecopy", "new"]
    assert {path.name for path in shop.retired.values() if path.is_file()} == {"thumbnail"}


@pytest.mark.one_process
def test_a_link_in_the_place_of_a_folder_leads_nowhere(
    shop: Workshop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shop.write("new/a")
    last = shop.write("new/b")
    outside = tmp_path_factory.mktemp("outside")

    def exchange(_: Path) -> None:
        if (shop.mirror / "new").is_dir() and not (shop.mirror / "new").is_symlink():
            (shop.mirror / "new").rmdir()
            (shop.mirror / "new").symlink_to(outside)

    told = shop.cycle(interfered(at(last, exchange, last)))

    assert told.failed == {b"new": Failure.TYPE_CONFLICT}
    assert os.listdir(outside) == []
    assert shop.cycle().result is Result.SUCCESS
    assert_mirrored(shop)


@pytest.mark.one_process
def test_a_staged_folder_that_was_exchanged_for_another_fails(shop: Workshop) -> None:
    shop.write("new/a")
    last = shop.write("zz/a")

    def exchange(_: Path) -> None:
        (staged,) = shop.mirror.glob(f"{OF_NOW}*/a")
        staged.parent.rename(shop.mirror / "elsewhere")
        staged.parent.mkdir(0o777)

    told = shop.cycle(interfered(at(last, exchange, last)))

    assert told.failed.keys() == {b"new", b"new/a"}
    assert not (shop.mirror / "new/a").exists()
    shop.cycle()
    assert_mirrored(shop)


@pytest.mark.one_process
def test_the_default_acl_of_a_mirror_gets_into_no_copy(shop: Workshop, placed: list[bytes]) -> None:
    everybody = b"\x02\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + (7).to_bytes(2, "little") + b"\xff" * 4 for tag in (0x01, 0x04, 0x20)
    )
    os.setxattr(shop.mirror, "system.posix_acl_default", everybody)
    shop.write("new/a")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert not placed
    assert os.listxattr(shop.mirror / "new/a") == []
    assert_mirrored(shop)


@pytest.mark.one_process
def test_a_failed_sync_places_nothing(shop: Workshop) -> None:
    shop.write("new/a")
    shop.write("new/b")

    told = shop.cycle(with_sync(failing(1)))

    assert told.failed == {b"new/a": Failure.SYNC, b"new/b": Failure.SYNC}
    assert os.listdir(shop.mirror / "new") == []
    assert not shop.temps
    assert shop.cycle().result is Result.SUCCESS
    assert_mirrored(shop)


@pytest.mark.one_process
@pytest.mark.parametrize("unusual", [[], ["zlink"]], ids=["staged", "temps"])
def test_an_error_of_the_disk_costs_one_file(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, unusual: list[str]
) -> None:
    for name in "abc":
        shop.write(f"new/{name}", f"content of {name}")
    for name in unusual:  # then the folder is not staged
        (shop.source / "new" / name).symlink_to("a")
    write = os.write

    def broken(descriptor: int, data: bytes) -> int:
        if data == b"content of b":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", broken)
        told = shop.cycle()

    assert told.failed == {b"new/b": Failure.IO_ERROR}
    assert told.tally.copied == 2 + len(unusual)
    assert not shop.temps
    again = shop.cycle()
    assert (again.result, set(again.copied)) == (Result.SUCCESS, {b"new/b"})
    assert_mirrored(shop)


@pytest.mark.one_process
def test_a_source_folder_that_is_exchanged_after_it_was_staged_fails(shop: Workshop) -> None:
    shop.write("new/a", "mine")
    last = shop.write("zz/a")

    def exchange(_: Path) -> None:
        (shop.source / "new").rename(shop.source / "away")
        (shop.source / "new").mkdir()

    told = shop.cycle(interfered(at(last, exchange, last)))

    assert told.failed == {b"new/a": Failure.CHANGED_DURING_COPY}
    assert not shop.temps
    shop.cycle()
    assert_mirrored(shop)


@pytest.mark.one_process
def test_a_source_folder_that_is_closed_after_it_was_staged_is_closed_in_the_mirror(shop: Workshop) -> None:
    shop.write("new/a", "secret")
    last = shop.write("zz/a")

    told = shop.cycle(interfered(at(last, lambda folder: folder.chmod(0o700), shop.source / "new")))

    assert told.result is Result.SUCCESS
    assert stat.S_IMODE((shop.mirror / "new").stat().st_mode) == 0o700


def leave(folder: Path, name: str, mode: int = 0o700) -> Path:
    """Leave what a killed run may have left."""
    staged = folder / name
    staged.mkdir(parents=True)
    (staged / "file").write_text("content")
    staged.chmod(mode)
    return staged


TEMP = ".truecopy-tmp-0123abcd-1"


def journal(shop: Workshop, staged: Path) -> None:
    """Enter it in the temp journal, as the run that staged it did."""
    entry = f"{staged.relative_to(shop.mirror)}/{staged.stat().st_ino:x}".encode()
    (shop.state / "leftovers").write_bytes(entry + b"\0")


@pytest.mark.one_process
def test_of_what_a_killed_run_has_staged_nothing_stays(shop: Workshop) -> None:
    shop.write("above/file")
    shop.cycle()
    journal(shop, leave(shop.mirror / "above", TEMP))

    shop.cycle()

    assert not shop.temps
    assert not shop.retired
    assert_mirrored(shop)


@pytest.mark.one_process
@pytest.mark.parametrize("noted", [[], [TEMP]], ids=["not in the journal", "in the place of one in the journal"])
def test_a_private_folder_that_was_renamed_to_the_name_of_a_staged_one_is_kept(
    shop: Workshop, noted: list[str]
) -> None:
    shop.write("above/private/file", "precious")
    (shop.source / "above/private").chmod(0o700)
    shop.cycle()
    (shop.source / "above/private/file").unlink()
    (shop.source / "above/private").rmdir()
    for name in noted:
        staged = leave(shop.mirror / "above", name)
        journal(shop, staged)
        staged.rename(shop.base / "away")
    (shop.mirror / "above/private").rename(shop.mirror / "above" / TEMP)

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert shop.retired[f"above/{TEMP}/file"].read_text() == "precious"
    assert os.listdir(shop.mirror / "above") == []


@pytest.mark.one_process
def test_a_staged_folder_with_more_in_it_than_files_is_kept_whole(shop: Workshop) -> None:
    shop.write("above/file")
    shop.cycle()
    staged = leave(shop.mirror / "above", TEMP)
    (staged / "below").mkdir()
    journal(shop, staged)

    shop.cycle()

    assert {f"above/{TEMP}/file", f"above/{TEMP}/below"} <= shop.retired.keys()


@pytest.mark.one_process
def test_folders_of_other_users_with_the_name_of_a_staged_one_are_left_alone(shop: Workshop) -> None:
    shop.write("above/file")
    shop.cycle()
    with_name = leave(shop.mirror / "above", ".truecopy-tmp-of-a-user")
    open_one = leave(shop.mirror / "above", TEMP, 0o755)

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert (with_name / "file").exists()
    assert (open_one / "file").exists()


@pytest.mark.needs_root
@pytest.mark.needs_tool("chattr")
@pytest.mark.one_process
def test_a_leftover_that_cannot_be_removed_keeps_nothing_else_from_being_copied(shop: Workshop) -> None:
    shop.write("above/file")
    shop.cycle()
    staged = leave(shop.mirror / "above", TEMP)
    journal(shop, staged)
    if subprocess.run(["chattr", "+i", staged / "file"], capture_output=True, check=False).returncode:
        pytest.skip("the file system has no immutable files")
    try:
        shop.write("above/new")

        told = shop.cycle()

        assert (told.result, set(told.copied)) == (Result.SUCCESS, {b"above/new"})
    finally:
        for path in shop.mirror.rglob(f"{TEMP}/file"):
            subprocess.run(["chattr", "-i", path], check=True)


def test_a_source_folder_with_the_name_of_a_staged_one_fails(shop: Workshop) -> None:
    shop.write(f"above/{TEMP}/below/file")

    assert shop.cycle().failed == {f"above/{TEMP}".encode(): Failure.RESERVED_NAME}


def test_what_other_workers_stage_in_a_folder_is_left_to_them(tmp_path: Path) -> None:
    leave(tmp_path, f"{OF_NOW}0123456789")
    before = staged_prefix("an earlier cycle") + b"0123456789"
    leave(tmp_path, os.fsdecode(before))
    (tmp_path / "file").write_text("content")
    retired: list[bytes] = []

    with closing(DirCursor(root := open_root(str(tmp_path)))) as cursor:
        found, swept = sweep_folder(cursor.goto(b""), OF_NOW.encode(), retired.append)
    os.close(root)

    assert ([entry.name for entry in found.entries], swept) == ([b"file"], True)
    assert retired == [before]


@pytest.mark.needs_root
@pytest.mark.parametrize("workers", [1, 3])
def test_folders_are_placed_in_folders_that_their_owner_may_not_change(open_shop: Workshop, workers: int) -> None:
    shop = open_shop
    for number in range(60):
        for name in "abc":
            shop.write(f"above/{number:02}/{name}")
    for number in range(MOST_FILES // 20):
        shop.write(f"above/file {number}")
    (shop.source / "above").chmod(0o555)
    for path in [shop.source, *shop.source.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    shop.options = {"workers": workers, "workers_from": 0}

    told = as_nobody(shop)

    assert told.result is Result.SUCCESS
    assert not shop.temps
    assert_mirrored(shop)


@pytest.mark.one_process
def test_a_folder_that_changes_while_others_are_placed_in_it_has_its_times(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("job.engine.copy.batch.MOST_FILES", 3)
    for number in range(9):
        shop.write(f"above/{number}/a")
        shop.write(f"above/{number}/b")
    growing = shop.write("above/growing")
    last = shop.source / "above/8/b"
    seen = growing.parent.stat()

    shop.cycle(interfered(at(last, lambda file: file.write_text("longer"), growing)))

    assert growing.parent.stat().st_mtime_ns == seen.st_mtime_ns
    assert (shop.mirror / "above").stat().st_mtime_ns == seen.st_mtime_ns
    shop.cycle()
    assert_mirrored(shop)


def test_nothing_is_staged_in_a_huge_folder_which_is_not_gone_through_twice(
    shop: Workshop, request: pytest.FixtureRequest, placed: list[bytes]
) -> None:
    request.getfixturevalue("huge_is_small")
    for number in range(40):
        shop.write(f"crowd/{number:02}/file")
    shop.options = {"workers": 1}

    told = shop.cycle()

    assert (told.result, told.tally.copied) == (Result.SUCCESS, 40)
    assert not placed
    assert_mirrored(shop)
