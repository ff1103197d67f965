"""Rights are taken from folders and old copies in the mirror before anything else is done."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.core.acl import Rights
from job.core.entry import Entry
from job.fs.dircursor import open_folder
from job.fs.listing import entry_of
from job.fs.rights import narrow_as_listed, narrow_file, narrow_folder, needs_narrowing, rights_at, wanted_rights
from job.fs.xattrs import PartlyRead

ALICE, BOB = 64_001, 64_002


def rights(path: Path) -> Rights:
    seen = path.stat()
    return rights_at(os.fsencode(path), seen)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of the source and its mirror."""
    source, mirror = tmp_path / "source", tmp_path / "mirror"
    for path in (source, mirror):
        path.mkdir()
        path.chmod(0o755)
    return source, mirror


@pytest.mark.parametrize(
    ("wanted", "found", "after"),
    [
        (0o700, 0o755, 0o700),
        (0o750, 0o775, 0o750),
        (0o755, 0o700, 0o700),
        (0o500, 0o755, 0o700),
        (0o1777, 0o777, 0o1777),
        (0o777, 0o1777, 0o1777),
        (0o2770, 0o2775, 0o2770),
    ],
)
def test_a_folder_grants_what_both_sides_grant(
    sides: tuple[Path, Path], folder: int, wanted: int, found: int, after: int
) -> None:
    source, mirror = sides
    source.chmod(wanted)
    mirror.chmod(found)
    opened = open_folder(b"mirror", folder)
    try:
        done = narrow_folder(opened, rights(mirror), rights(source))
    finally:
        os.close(opened)

    assert mode(mirror) == stat.S_IMODE(done.mode) == after
    assert done.changed is (after != found)
    assert done.error is None


@pytest.mark.needs_root
def test_a_folder_of_somebody_else_is_taken_over_until_it_is_handed_on(sides: tuple[Path, Path], folder: int) -> None:
    source, mirror = sides
    os.chown(source, ALICE, 0)
    os.chown(mirror, BOB, 0)
    opened = open_folder(b"mirror", folder)
    try:
        done = narrow_folder(opened, rights(mirror), rights(source))
    finally:
        os.close(opened)

    assert (done.owner, mirror.stat().st_uid, mode(mirror)) == (os.geteuid(), os.geteuid(), 0o755)


def test_what_may_be_the_mask_of_an_unread_acl_is_no_right_of_the_group(sides: tuple[Path, Path]) -> None:
    source, _ = sides
    source.chmod(0o775)
    unread = PartlyRead()
    unread.acl_unknown = True

    assert wanted_rights(source.stat(), unread).mode & 0o777 == 0o755
    assert wanted_rights(source.stat(), {}).mode & 0o777 == 0o775


def test_a_folder_that_cannot_be_opened_is_followed_by_its_listing(sides: tuple[Path, Path], folder: int) -> None:
    source, mirror = sides
    source.chmod(0o000)
    opened = open_folder(b"mirror", folder)
    try:
        assert narrow_as_listed(b"source", folder, opened)
        assert not narrow_as_listed(b"source", folder, opened)
    finally:
        os.close(opened)

    assert mode(mirror) == 0o700


@pytest.mark.parametrize(("wanted", "found"), [(0o600, 0o644), (0o640, 0o660), (0o700, 0o701)])
def test_listings_tell_that_a_copy_grants_too_much(sides: tuple[Path, Path], wanted: int, found: int) -> None:
    assert needs_narrowing(*listed(sides, wanted, found))


@pytest.mark.parametrize(("wanted", "found"), [(0o644, 0o600), (0o644, 0o644), (0o4755, 0o755), (0o400, 0o600)])
def test_listings_tell_that_a_copy_grants_no_more(sides: tuple[Path, Path], wanted: int, found: int) -> None:
    assert not needs_narrowing(*listed(sides, wanted, found))


def listed(sides: tuple[Path, Path], wanted: int, found: int) -> tuple[Entry, Entry]:
    source, mirror = (path / "file" for path in sides)
    for path, bits in ((source, wanted), (mirror, found)):
        path.touch()
        path.chmod(bits)
    return entry_of(b"file", mirror.stat()), entry_of(b"file", source.stat())


@pytest.fixture
def files(sides: tuple[Path, Path], folder: int) -> Iterator[tuple[Path, int, Path, int]]:
    """A file of the source that others may not read, and its mirror that they may; each with its open folder."""
    source, mirror = (path / "file" for path in sides)
    source.touch()
    source.chmod(0o600)
    mirror.touch()
    mirror.chmod(0o644)
    opened = open_folder(b"source", folder), open_folder(b"mirror", folder)
    yield source, opened[0], mirror, opened[1]
    for each in opened:
        os.close(each)


def test_an_old_copy_grants_what_both_sides_grant(files: tuple[Path, int, Path, int]) -> None:
    source, from_folder, mirror, to_folder = files
    listed, copy = entry_of(b"file", source.stat()), entry_of(b"file", mirror.stat())

    seen = narrow_file(listed, from_folder, copy, to_folder, 1)

    assert seen is not None
    assert seen.st_ctime_ns == mirror.stat().st_ctime_ns
    assert mode(mirror) == 0o600
    assert narrow_file(listed, from_folder, copy, to_folder, 1) is None


def test_a_copy_with_another_name_elsewhere_is_left_alone(files: tuple[Path, int, Path, int], tmp_path: Path) -> None:
    source, from_folder, mirror, to_folder = files
    os.link(mirror, tmp_path / "outside")
    listed, copy = entry_of(b"file", source.stat()), entry_of(b"file", mirror.stat())

    assert narrow_file(listed, from_folder, copy, to_folder, 1) is None
    assert mode(mirror) == 0o644
    assert narrow_file(listed, from_folder, copy, to_folder, 2) is not None


def test_something_else_that_has_the_name_now_is_left_alone(files: tuple[Path, int, Path, int]) -> None:
    source, from_folder, mirror, to_folder = files
    listed, copy = entry_of(b"file", source.stat()), entry_of(b"file", mirror.stat())
    mirror.rename(mirror.with_name("aside"))
    mirror.symlink_to("aside")

    assert narrow_file(listed, from_folder, copy, to_folder, 1) is None
    assert mode(mirror.with_name("aside")) == 0o644
