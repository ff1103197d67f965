"""The hard-link table: the names of multiply linked files that one cycle collects.

SQLite holds it in memory while it is small, then in an unnamed temporary file, which leaves nothing behind.
"""

import contextlib
import errno
import marshal
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from job.core.entry import Entry, FileId, file_key, file_of_key
from job.core.outcome import reason_text
from job.core.record import LinkName, LinkOutcome, LinkRecord, Record

_SCHEMA = """
CREATE TABLE member (
  path BLOB, name BLOB, part INTEGER, file BLOB, size INTEGER, mirror BLOB, record BLOB, counted INTEGER,
  names INTEGER, moved INTEGER, outcome BLOB, PRIMARY KEY (path, name)
) WITHOUT ROWID;
CREATE INDEX member_by_file ON member (file);
CREATE INDEX member_by_mirror ON member (mirror);
"""
_OF_FILE = (
    "SELECT path, part, name, size, mirror, record, counted, names FROM member WHERE file = ? ORDER BY path, name"
)
_ADD = "INSERT OR IGNORE INTO member VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
_OWNER = "SELECT file FROM member WHERE mirror = ? ORDER BY moved, file LIMIT 1"
_OF_FOLDER = "SELECT name, file, outcome FROM member WHERE path = ? AND part = ? AND outcome IS NOT NULL"
_FILES = "SELECT DISTINCT file FROM member WHERE file > ? ORDER BY file LIMIT 500"


class HardLinkTable:
    """Names of files with several names, and their results. Use it with `contextlib.closing`.

    All methods raise `OSError` if the temporary file cannot be written.
    """

    def __init__(self) -> None:
        self._opened: sqlite3.Connection | None = None

    def close(self) -> None:
        """Drop the table."""
        if self._opened is not None:
            self._opened.close()

    def add(self, names: Iterable[LinkName]) -> None:
        """Add names; existing ones stay unchanged."""
        with self._writing() as db:
            db.executemany(_ADD, map(_row, names))

    def settle(self, linked: Iterable[LinkRecord]) -> None:
        """Store the results of names."""
        rows = [(_dump(each.record) or b"", each.path, each.name) for each in linked]
        with self._writing() as db:
            db.executemany("UPDATE member SET outcome = ? WHERE path = ? AND name = ?", rows)

    def files(self) -> Iterator[FileId]:
        """Yield each file once; names may be added during the iteration."""
        last = b""
        while found := self._all(_FILES, last):
            for (last,) in found:
                yield file_of_key(last)

    def of_file(self, file: FileId) -> list[LinkName]:
        """Return the names of a file, sorted."""
        return [
            LinkName(file, path, part, name, size, _file(mirror), _load(record), bool(counted), names)
            for path, part, name, size, mirror, record, counted, names in self._all(_OF_FILE, file_key(file))
        ]

    def owner_of(self, mirror: FileId) -> FileId | None:
        """Return the source file that a mirror file is assigned to, if it has names of several source files."""
        return next((file_of_key(file) for (file,) in self._all(_OWNER, file_key(mirror))), None)

    def of_folder(self, path: bytes, part: int) -> dict[bytes, LinkOutcome]:
        """Return the results of names in one part of a folder."""
        return {
            name: LinkOutcome(file_of_key(file).device, _load(outcome) if outcome else None)
            for name, file, outcome in self._all(_OF_FOLDER, path, part)
        }

    def has_name(self, path: bytes, name: bytes) -> bool:
        """Return whether the table has a name of a folder."""
        return bool(self._all("SELECT 1 FROM member WHERE path = ? AND name = ?", path, name))

    def has_folder(self, path: bytes) -> bool:
        """Return whether the table has names of a folder."""
        return bool(self._all("SELECT 1 FROM member WHERE path = ? LIMIT 1", path))

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        if self._opened is None:
            return []
        with _as_os_error():
            return self._opened.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with _as_os_error():
            if self._opened is None:
                self._opened = sqlite3.connect("", isolation_level=None)
                self._opened.executescript(_SCHEMA)
            self._opened.execute("BEGIN")
            yield self._opened
            self._opened.execute("COMMIT")


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(
            errno.ENOSPC, f"no room for the list of hard links among temporary files: {reason_text(error)}"
        ) from error


def _row(each: LinkName) -> tuple[object, ...]:
    mirror = None if each.mirror is None else file_key(each.mirror)
    moved = each.record is None or each.record.source.inode != each.file.inode
    key, record = file_key(each.file), _dump(each.record)
    return each.path, each.name, each.part, key, each.size, mirror, record, each.counted, each.names, moved


def _file(key: bytes | None) -> FileId | None:
    return None if key is None else file_of_key(key)


def _dump(record: Record | None) -> bytes | None:
    if record is None:
        return None
    return marshal.dumps((tuple(record.source), tuple(record.mirror), record.checksum, record.racy, record.since_ns))


def _load(dumped: bytes | None) -> Record | None:
    if dumped is None:
        return None
    source, mirror, *rest = marshal.loads(dumped)  # noqa: S302  # written by `_dump`, never left this process
    return Record(Entry._make(source), Entry._make(mirror), *rest)
