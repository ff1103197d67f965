"""Listings as plain values, and fingerprints that move with them."""

import os
import stat
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from job.core.entry import Entry, Kind
from job.files.listing import fingerprint_of, list_entries, mirror_fingerprint
from tests.core import samples


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
