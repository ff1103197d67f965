"""Listing a source by descriptors: what moves a fingerprint, what does not, and what is unknown."""

import errno
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from job.core.exclude import ExcludeRules
from job.fs.listing import Listing, Unlisted
from job.fs.scanners import MirrorLimits, MirrorScanner, SourceScanner
from tests.faults.tampering import mounted

LONG_AGO_NS = 1_000_000_000_000_000_000


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A file, a link and a folder with a file, all of them old."""
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "inner").write_text("inner")
    for name in ("file", "sub/inner", "sub"):
        os.utime(tmp_path / name, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return tmp_path


def fingerprint(root: int, *patterns: str, path: bytes = b"", policy: bytes = b"") -> bytes:
    with closing(SourceScanner(root, ExcludeRules(patterns), MirrorLimits(policy, None))) as scanner:
        return scanner.list(path).fingerprint


def walked(root: int, *patterns: str) -> list[Listing | Unlisted]:
    with closing(SourceScanner(root, ExcludeRules(patterns), cross_mounts=True)) as scanner:
        return list(scanner.walk())


def test_parents_come_before_their_children_and_names_in_order(root: int, tmp_path: Path) -> None:
    for name in ("b/y", "b/x", "a", "a-b"):
        (tmp_path / name).mkdir(parents=True)

    found = walked(root)

    assert [each.path for each in found] == [b"", b"a", b"a-b", b"b", b"b/x", b"b/y"]


def test_a_listing_is_sorted_and_names_its_folders(root: int, tree: Path) -> None:
    with closing(SourceScanner(root, ExcludeRules(()))) as scanner:
        listing = scanner.list(b"")

    assert [entry.name for entry in listing.entries] == [b"file", b"link", b"sub"]
    assert listing.folders == [b"sub"]
    assert listing.folder.st_ino == tree.stat().st_ino


def edit_keeping_size_and_mtime(tree: Path) -> None:
    before = (tree / "file").stat()
    (tree / "file").write_text("CONTENT")
    os.utime(tree / "file", ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_keeping_the_name(tree: Path) -> None:
    (tree / "fresh").write_text("content")
    os.utime(tree / "fresh", ns=(LONG_AGO_NS, LONG_AGO_NS))
    (tree / "fresh").rename(tree / "file")


def relink(tree: Path) -> None:
    (tree / "link").unlink()
    (tree / "link").symlink_to("else")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda tree: (tree / "file").write_text("longer content"),
    "edit that keeps size and mtime": edit_keeping_size_and_mtime,
    "mtime by a nanosecond": lambda tree: os.utime(tree / "file", ns=(0, LONG_AGO_NS + 1)),
    "mode": lambda tree: (tree / "file").chmod(0o600),
    "attribute": lambda tree: os.setxattr(tree / "file", "user.colour", b"blue"),
    "rename": lambda tree: (tree / "file").rename(tree / "eile"),
    "another file of the same name": replace_keeping_the_name,
    "new file": lambda tree: (tree / "new").touch(),
    "new folder": lambda tree: (tree / "new").mkdir(),
    "file gone": lambda tree: (tree / "file").unlink(),
    "link text": relink,
    "folder's own mode": lambda tree: tree.chmod(0o711),
    "folder's own attribute": lambda tree: os.setxattr(tree, "user.colour", b"blue"),
    "folder's own mtime": lambda tree: os.utime(tree, ns=(0, 5)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_fingerprint_moves_with(root: int, tree: Path, change: str) -> None:
    before = fingerprint(root)

    CHANGES[change](tree)

    assert fingerprint(root) != before


def test_a_fingerprint_does_not_move_when_nothing_does(root: int, tree: Path) -> None:
    before = fingerprint(root)

    (tree / "file").read_text()
    list(tree.iterdir())

    assert fingerprint(root) == before


def test_what_changes_below_a_subfolder_moves_only_the_subfolders_fingerprint(root: int, tree: Path) -> None:
    before = fingerprint(root), fingerprint(root, path=b"sub")

    (tree / "sub" / "inner").write_text("changed")

    assert fingerprint(root) == before[0]
    assert fingerprint(root, path=b"sub") != before[1]


def test_excluded_entries_are_not_there(root: int, tree: Path) -> None:
    (tree / "trash.tmp").write_text("one")
    before = fingerprint(root, "*.tmp")

    (tree / "trash.tmp").write_text("another")

    assert fingerprint(root, "*.tmp") == before
    assert b"trash.tmp" not in {entry.name for entry in listing_of(walked(root, "*.tmp"), b"").entries}


def listing_of(found: list[Listing | Unlisted], path: bytes) -> Listing:
    [listing] = [each for each in found if each.path == path]
    assert isinstance(listing, Listing)
    return listing


def test_excluded_folders_are_not_entered(root: int, tree: Path) -> None:
    (tree / ".stfolder" / "deep").mkdir(parents=True)

    assert [each.path for each in walked(root, "sub/")] == [b""]


def test_other_patterns_and_other_options_make_other_fingerprints(root: int, tree: Path) -> None:
    assert tree.exists()

    prints = [fingerprint(root), fingerprint(root, "*.none"), fingerprint(root, policy=b"blake3")]

    assert len(set(prints)) == 3


def test_reserved_folders_are_listed_and_not_entered(root: int, tmp_path: Path) -> None:
    for name in (".truecopy/below", "sub/.truecopy-tmp-1/below", "sub/.truecopy"):
        (tmp_path / name).mkdir(parents=True)

    found = walked(root)

    assert [each.path for each in found] == [b"", b"sub", b"sub/.truecopy"]
    assert [entry.name for entry in listing_of(found, b"").entries] == [b".truecopy", b"sub"]


def test_state_and_temps_of_truecopy_itself_are_left_out_and_named(root: int, tmp_path: Path) -> None:
    for state in (".truecopy", "sub/mirror/.truecopy"):
        (tmp_path / state / "versions").mkdir(parents=True)
        (tmp_path / state / "README.txt").write_text("This folder belongs to Truecopy, which keeps\n")
        (tmp_path / state / "whatever").touch()
    for name in (".truecopy-tmp-0123abcd-1f", "sub/.truecopy-tmp-probe/file", ".truecopy-tmp-mine", "sub/file"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    found = [each for each in walked(root) if isinstance(each, Listing)]

    assert [each.path for each in found] == [b"", b"sub", b"sub/mirror"]
    assert [[entry.name for entry in each.entries] for each in found] == [
        [b".truecopy-tmp-mine", b"sub"],
        [b"file", b"mirror"],
        [],
    ]
    assert [out.path for each in found for out in each.left_out] == [
        b".truecopy",
        b".truecopy-tmp-0123abcd-1f",
        b"sub/.truecopy-tmp-probe",
        b"sub/mirror/.truecopy",
    ]


@pytest.mark.parametrize("name", ["notes", "index.sqlite3"])
def test_a_folder_that_only_has_the_name_of_our_state_is_no_state(root: int, tmp_path: Path, name: str) -> None:
    for state in (".truecopy", "sub/.truecopy"):
        (tmp_path / state).mkdir(parents=True)
        (tmp_path / state / name).touch()

    found = [each for each in walked(root) if isinstance(each, Listing)]

    assert [[entry.name for entry in each.entries] for each in found[:2]] == [[b".truecopy", b"sub"], [b".truecopy"]]
    assert not any(each.left_out for each in found)


def test_what_lies_in_a_mirror_whose_state_is_elsewhere_is_ours_too(root: int, tmp_path: Path) -> None:
    for name in ("versions/20260101T000000Z", "lease"):
        (tmp_path / "sub/.truecopy" / name).mkdir(parents=True)

    assert [each.path for each in walked(root)] == [b"", b"sub"]


def test_lost_found_is_left_out_at_the_root_and_nowhere_else(root: int, tmp_path: Path) -> None:
    for name in ("lost+found/#1", "sub/lost+found/#2"):
        (tmp_path / name).mkdir(parents=True)

    assert [each.path for each in walked(root)] == [b"", b"sub", b"sub/lost+found", b"sub/lost+found/#2"]
    assert b"lost+found/#1" in [each.path for each in walked(root, "!lost+found/")]
    assert [each.path for each in walked(root, "*.tmp")] == [b"", b"sub", b"sub/lost+found", b"sub/lost+found/#2"]


def test_a_file_named_lost_found_is_a_file(root: int, tmp_path: Path) -> None:
    (tmp_path / "lost+found").touch()

    assert [entry.name for entry in listing_of(walked(root), b"").entries] == [b"lost+found"]


@pytest.mark.needs_root
def test_lost_found_of_a_disk_mounted_in_the_source_is_left_out_too(root: int, tmp_path: Path) -> None:
    at = tmp_path / "disk"
    with mounted("tmpfs", at, "-t", "tmpfs"):
        (at / "lost+found/#1").mkdir(parents=True)
        (at / "sub/lost+found").mkdir(parents=True)
        plain = [each.path for each in walked(root)]
        asked = [each.path for each in walked(root, "!lost+found/")]

    assert plain == [b"", b"disk", b"disk/sub", b"disk/sub/lost+found"]
    assert b"disk/lost+found/#1" in asked


def test_links_to_folders_are_entries_and_not_ways(root: int, tree: Path) -> None:
    (tree / "loop").symlink_to(".")

    assert [each.path for each in walked(root)] == [b"", b"sub"]


def test_specials_are_listed_without_being_opened(root: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "socket"))

        names = [entry.name for entry in listing_of(walked(root), b"").entries]

    assert names == [b"pipe", b"socket"]


def test_a_folder_that_vanished_meanwhile_is_unlisted_and_the_walk_goes_on(root: int, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with closing(SourceScanner(root, ExcludeRules(()))) as scanner:
        walk = scanner.walk()
        next(walk)
        (tmp_path / "a").rmdir()

        rest = list(walk)

    assert [type(each) for each in rest] == [Unlisted, Listing]
    assert isinstance(rest[0], Unlisted)
    assert isinstance(rest[0].error, FileNotFoundError)


@pytest.fixture
def nobody(tmp_path: Path, root: int) -> Iterator[int]:
    """Be an ordinary user who was given an open root in which some things are locked."""
    for name, mode in (("halfway", 0o444), ("locked", 0o000), ("open", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        (tmp_path / name).chmod(mode)
    tmp_path.chmod(0o755)
    os.seteuid(65534)
    yield root
    os.seteuid(0)


@pytest.mark.needs_root
def test_an_unreadable_folder_is_unknown_and_not_empty(nobody: int) -> None:
    found = {each.path: each for each in walked(nobody)}

    locked = found[b"locked"]
    assert isinstance(locked, Unlisted)
    assert locked.error.errno == errno.EACCES
    assert isinstance(found[b"open"], Listing)


@pytest.mark.needs_root
def test_names_that_may_not_be_examined_are_unknown_and_not_gone(nobody: int) -> None:
    listing = listing_of(walked(nobody), b"halfway")

    assert listing.entries == []
    assert [(name, error.errno) for name, error in listing.unreadable] == [(b"file", errno.EACCES)]


def test_a_mirror_folders_stamp_moves_when_a_name_in_it_does(root: int, tree: Path) -> None:
    with closing(MirrorScanner(root)) as watch:
        before = watch.stamp(b""), watch.stamp(b"sub")
        (tree / "sub" / "inner").unlink()

        after = watch.stamp(b""), watch.stamp(b"sub")

    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_mirror_fingerprint_moves_when_a_file_is_edited_in_place(root: int, tree: Path) -> None:
    with closing(MirrorScanner(root)) as watch:
        before = watch.stamp(b"sub"), watch.inspect(b"sub")
        with (tree / "sub" / "inner").open("r+") as file:
            file.write("I")

        after = watch.stamp(b"sub"), watch.inspect(b"sub")

    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize("path", [b"missing", b"file", b"link", b"missing/below", b"file/below"])
def test_what_is_no_folder_of_the_mirror_has_no_stamp(root: int, tree: Path, path: bytes) -> None:
    (tree / "link").unlink()
    (tree / "link").symlink_to("sub")

    with closing(MirrorScanner(root)) as watch:
        assert watch.stamp(path) is None
        assert watch.inspect(path) is None


def test_watching_a_mirror_does_not_change_it(root: int, tree: Path) -> None:
    before = subprocess.run(["find", tree, "-printf", "%p %m %T@ %C@\n"], capture_output=True, check=True).stdout

    with closing(MirrorScanner(root)) as watch:
        watch.stamp(b"sub")
        watch.inspect(b"sub")

    after = subprocess.run(["find", tree, "-printf", "%p %m %T@ %C@\n"], capture_output=True, check=True).stdout
    assert after == before
