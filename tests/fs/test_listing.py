"""Listings as plain values, and fingerprints that move with them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.core.entry import Entry, Kind
from job.fs.dircursor import open_folder
from job.fs.listing import fingerprint_of, list_entries, mirror_fingerprint, scan
from tests.core import samples
from tests.engine.workshop import nobody


def test_a_listing_is_sorted_by_bytes_and_holds_every_kind(folder: int, tmp_path: Path) -> None:
    top = os.fsencode(tmp_path)
    for name in (b"b", b"a\xff", b"a\nb", b"B"):
        os.close(os.open(top + b"/" + name, os.O_CREAT | os.O_WRONLY))
    os.mkdir(top + b"/folder")
    os.symlink(b"nowhere", top + b"/link")
    os.mkfifo(top + b"/pipe")

    entries, unreadable, _ = list_entries(folder)

    assert [entry.name for entry in entries] == [b"B", b"a\nb", b"a\xff", b"b", b"folder", b"link", b"pipe"]
    assert [entry.kind for entry in entries[4:]] == [Kind.FOLDER, Kind.SYMLINK, Kind.SPECIAL]
    assert unreadable == []


def test_an_entry_says_what_lstat_says(folder: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    os.utime(tmp_path / "file", ns=(1, -5))
    seen = (tmp_path / "file").lstat()

    [entry] = list_entries(folder)[0]

    assert entry == Entry(b"file", seen.st_ino, seen.st_mode, os.getuid(), os.getgid(), 5, -5, seen.st_ctime_ns)


def test_of_a_subfolder_only_name_inode_and_type_count(folder: int, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    before = list_entries(folder)

    (tmp_path / "sub" / "file").touch()
    (tmp_path / "sub").chmod(0o700)

    assert list_entries(folder) == before
    assert before[0][0].mode == stat.S_IFDIR


@given(st.lists(samples.entries, max_size=4), st.lists(samples.entries, max_size=4))
@settings(deadline=None)
def test_fingerprints_are_equal_only_for_equal_listings(one: list[Entry], other: list[Entry]) -> None:
    assert (fingerprint_of(one) == fingerprint_of(other)) is (one == other)


@given(samples.entries, st.sampled_from(Entry._fields), samples.entries)
@settings(deadline=None)
def test_every_field_of_every_entry_counts(entry: Entry, field: str, other: Entry) -> None:
    changed = entry._replace(**{field: getattr(other, field)})

    assert (fingerprint_of([entry]) == fingerprint_of([changed])) is (entry == changed)


@given(samples.entries)
@settings(deadline=None)
def test_how_a_value_came_about_does_not_count(entry: Entry) -> None:
    # The bytes of `marshal` depend on reference counts and interning from version 3 on.
    again = Entry(bytes(bytearray(entry.name)), *(int(str(number)) for number in entry[1:]))
    shared = [entry, entry]

    assert fingerprint_of([entry]) == fingerprint_of([again])
    assert fingerprint_of(shared) == fingerprint_of([entry, again])


def test_the_salt_counts(folder: int) -> None:
    entries = list_entries(folder)[0]

    assert fingerprint_of(entries, b"one") != fingerprint_of(entries, b"other")


def test_our_own_state_does_not_count_as_part_of_the_mirror(folder: int, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = mirror_fingerprint(list_entries(folder)[0])

    (tmp_path / ".truecopy").mkdir()

    assert mirror_fingerprint(list_entries(folder)[0]) == before


def names(folder: int) -> list[str]:
    with scan(folder) as found:
        return sorted(item.name for item in found)


@pytest.fixture
def sub(folder: int, tmp_path: Path) -> Iterator[int]:
    """A folder as a trail opens it."""
    (tmp_path / "sub").mkdir()
    opened = open_folder(b"sub", folder)
    yield opened
    os.close(opened)


def test_the_first_listing_by_a_descriptor_of_a_trail_opens_nothing(sub: int, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    real = os.open

    def recorded(path: str | bytes, *rest: object, **how: object) -> int:
        opened.append(path)
        return real(path, *rest, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", recorded)

    names(sub)
    first = list(opened)
    names(sub)

    assert (first, opened) == ([], ["."])


def test_every_listing_shows_what_is_there_at_that_moment(sub: int, tmp_path: Path) -> None:
    seen = []
    for name in "abc":
        (tmp_path / "sub" / name).touch()
        seen.append(names(sub))

    assert seen == [["a"], ["a", "b"], ["a", "b", "c"]]


def test_entries_can_be_examined_as_long_as_the_listing_is_open(sub: int, tmp_path: Path) -> None:
    (tmp_path / "sub" / "file").write_text("12345")
    names(sub)

    with scan(sub) as found:
        assert [item.stat(follow_symlinks=False).st_size for item in found] == [5]


@pytest.mark.needs_root
def test_a_folder_that_may_not_be_opened_by_name_is_listed_again_all_the_same(sub: int, tmp_path: Path) -> None:
    (tmp_path / "sub" / "file").touch()
    (tmp_path / "sub").chmod(0)
    names(sub)

    with nobody():
        assert names(sub) == ["file"]


def test_listings_leave_no_descriptor_open(sub: int) -> None:
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(3):
        names(sub)

    assert len(os.listdir("/proc/self/fd")) == before
