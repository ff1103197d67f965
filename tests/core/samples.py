"""Entries and records to decide about, one by one and by Hypothesis."""

import stat

from hypothesis import strategies as st

from job.core.entry import Entry
from job.core.record import CLOCK_GRAIN_NS, FolderDone, FolderSummary, Record, RowsDone
from job.store.codec import encode_records

LONG_AGO_NS = 1_000 * CLOCK_GRAIN_NS
SHA256 = "sha256:" + "ab" * 32


def a_file(**changed: int) -> Entry:
    """Give a file that was left alone for long, some of it changed."""
    file = Entry(b"name", 11, stat.S_IFREG | 0o644, 1000, 1000, 5, LONG_AGO_NS, LONG_AGO_NS)
    return file._replace(**changed)  # type: ignore[arg-type]  # only numbers are changed


def a_mirror(**changed: int) -> Entry:
    """Give the mirror of `a_file`."""
    return a_file(**{"inode": 99, "ctime_ns": LONG_AGO_NS + 7, **changed})


def a_folder() -> Entry:
    return a_file(mode=stat.S_IFDIR)


def a_link(**changed: int) -> Entry:
    return a_file(**{"mode": stat.S_IFLNK | 0o777, **changed})


def a_fifo() -> Entry:
    return a_file(mode=stat.S_IFIFO | 0o644)


def a_record(source: Entry, mirror: Entry, checksum: str = SHA256, *, racy: bool = False) -> Record:
    return Record(source, mirror, checksum, racy)


names = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."}
)
numbers = st.integers(0, 2**63 - 1)
times = st.integers(-(2**63), 2**63 - 1)
modes = st.builds(
    lambda kind, bits: kind | bits,
    st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR]),
    st.integers(0, 0o7777),
)
entries = st.builds(Entry, names, numbers, modes, numbers, numbers, numbers, times, times)
records = st.builds(
    Record, entries, entries, st.sampled_from(["", SHA256, "blake3:00", "md5:ff"]), st.booleans(), st.just(0)
)


def a_finished_folder(path: bytes = b"folder", entries: int = 1, parts: int = 1) -> FolderDone:
    return FolderDone(path, FolderSummary(b"f", b"a stamp", b"m", entries, 0, recheck=False, parts=parts))


def rows_of(path: bytes = b"folder", part: int = 0, **changed: int) -> RowsDone:
    """Give the one record of a folder, or of a part of it, as a row."""
    return RowsDone(path, part, encode_records([a_record(a_file(**changed), a_mirror())]))
