"""The hard-link table: the names of files, and their results."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from job.core.entry import FileId
from job.core.record import LinkName, LinkOutcome, LinkRecord
from job.store.hardlink_table import HardLinkTable
from tests.core import samples

RECORD = samples.a_record(samples.a_file(), samples.a_mirror())
LARGE_INODE = (1 << 64) - 1


DEVICE = 50
MIRROR = FileId(60, 99)


def a_member(name: bytes = b"name", path: bytes = b"folder", inode: int = 11, **changed: object) -> LinkName:
    member = LinkName(FileId(DEVICE, inode), path, 0, name, 5, MIRROR, RECORD)
    return member._replace(**changed)  # type: ignore[arg-type]


@pytest.fixture
def book() -> Iterator[HardLinkTable]:
    with closing(HardLinkTable()) as opened:
        yield opened


def test_a_book_that_nothing_was_noted_in_has_nothing(book: HardLinkTable) -> None:
    assert (list(book.files()), book.of_file(FileId(DEVICE, 1)), book.of_folder(b"", 0), book.has_folder(b"")) == (
        [],
        [],
        {},
        False,
    )


def test_names_are_given_back_by_file_as_they_were_noted(book: HardLinkTable) -> None:
    members = [a_member(b"b"), a_member(b"a"), a_member(b"other", inode=LARGE_INODE, record=None, mirror=None)]
    book.add(members)

    assert sorted(book.files()) == [(DEVICE, 11), (DEVICE, LARGE_INODE)]
    assert book.of_file(FileId(DEVICE, 11)) == [members[1], members[0]]
    assert book.of_file(FileId(DEVICE, LARGE_INODE)) == [members[2]]


def test_a_name_that_is_noted_already_stays_as_it_is(book: HardLinkTable) -> None:
    book.add([a_member()])
    book.add([a_member(inode=12, counted=True)])

    assert book.of_file(FileId(DEVICE, 11)) == [a_member()]
    assert list(book.files()) == [(DEVICE, 11)]


def test_outcomes_are_given_by_folder_and_part_and_only_those_that_were_heard_of(book: HardLinkTable) -> None:
    book.add([a_member(b"settled"), a_member(b"failed"), a_member(b"unheard"), a_member(b"of a part", part=3)])
    book.settle([LinkRecord(b"folder", b"settled", RECORD), LinkRecord(b"folder", b"failed", None)])
    book.settle([LinkRecord(b"folder", b"of a part", RECORD)])

    assert book.of_folder(b"folder", 0) == {
        b"settled": LinkOutcome(DEVICE, RECORD),
        b"failed": LinkOutcome(DEVICE, None),
    }
    assert book.of_folder(b"folder", 3) == {b"of a part": LinkOutcome(DEVICE, RECORD)}
    assert book.has_folder(b"folder")
    assert book.has_name(b"folder", b"failed")
    assert not book.has_name(b"elsewhere", b"failed")
    assert not book.has_folder(b"elsewhere")


def test_an_inode_of_the_mirror_stays_with_the_file_it_was_made_for(book: HardLinkTable) -> None:
    moved = RECORD._replace(source=RECORD.source._replace(inode=12))
    book.add(
        [
            a_member(b"new", inode=7, record=moved),
            a_member(b"old", inode=11),
            a_member(b"unknown", inode=3, record=None),
        ]
    )

    assert book.owner_of(MIRROR) == (DEVICE, 11)
    assert book.owner_of(MIRROR._replace(device=61)) is None
    assert book.owner_of(FileId(60, 98)) is None


def test_files_of_two_devices_with_one_inode_number_are_two(book: HardLinkTable) -> None:
    largest = (1 << 64) - 1
    book.add([a_member(b"a"), a_member(b"b", file=FileId(largest, 11))])

    assert list(book.files()) == [(DEVICE, 11), (largest, 11)]
    assert [each.name for each in book.of_file(FileId(largest, 11))] == [b"b"]


def test_more_files_than_are_fetched_at_once_are_all_given(book: HardLinkTable) -> None:
    book.add(a_member(b"%d" % number, inode=number) for number in range(1, 1203))

    assert list(book.files()) == [(DEVICE, number) for number in range(1, 1203)]


def test_no_room_is_told_as_an_error_of_the_system(book: HardLinkTable, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite3, "connect", fail)

    with pytest.raises(OSError, match="no room for the list of hard links"):
        book.add([a_member()])
