"""SQLite files that are traps: trees of pages that lead round and round, and what else nobody's own file has."""

import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

PAGE = 4096
_DEPTH, _WIDTH = 16, 8
"""So many levels of pages, of which each leads so many times to the next: 8 to the 16th ways to one leaf."""
_INDEX, _TABLE = 0x02, 0x05
"""Kinds of pages that lead to others; eight more is the kind of their leaves."""


def changed(path: Path, *statements: str) -> None:
    """Change a file with SQLite."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for statement in statements:
            database.execute(statement)


def patched(path: Path, place: int, data: bytes) -> None:
    """Change bytes in a file."""
    content = bytearray(path.read_bytes())
    content[place : place + len(data)] = data
    path.write_bytes(content)


def rows_without_end(path: Path, table: str) -> None:
    """Have the tree of a table WITHOUT ROWID, which has a row, lead round and round."""
    with closing(sqlite3.connect(path)) as database:
        (root,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    content = bytearray(path.read_bytes())
    at = (root - 1) * PAGE
    leaf = bytes(content[at : at + PAGE])
    assert leaf[0] == _INDEX + 8
    cell = _first_cell(leaf, 0, rowid=False)
    first = len(content) // PAGE + 1
    pages = [_leading([(first + level + 1, cell)] * _WIDTH, first + level + 1, _INDEX) for level in range(_DEPTH)]
    content[at : at + PAGE] = _leading([(first, cell)] * _WIDTH, first, _INDEX)
    _store(path, content, [*pages, leaf])


def schema_without_end(path: Path) -> None:
    """Have the table of tables lead round and round to an index that SQLite made by itself, which may come twice."""
    content = bytearray(path.read_bytes())
    first, page = len(content) // PAGE + 1, bytes(content[:PAGE])
    cells = [_cell(page, place, rowid=True) for place in _pointers(page, 100)]
    automatic = next(cell for cell in cells if b"sqlite_autoindex" in cell)
    pages = [_leading([(first + level + 1, b"\1")] * _WIDTH, first + level + 1, _TABLE) for level in range(_DEPTH)]
    real = first + _DEPTH + 1
    content[100:PAGE] = _leading([(real, b"\1")], first, _TABLE, begin=100)[100:]
    _store(path, content, [*pages, _leaf([automatic]), _leaf(cells)])


def _store(path: Path, content: bytearray, pages: list[bytes]) -> None:
    for page in pages:
        content += page
    content[28:32] = struct.pack(">I", len(content) // PAGE)
    path.write_bytes(content)


def _pointers(content: bytes, header: int) -> list[int]:
    (count,) = struct.unpack_from(">H", content, header + 3)
    return list(struct.unpack_from(f">{count}H", content, header + 8))


def _first_cell(page: bytes, header: int, *, rowid: bool) -> bytes:
    return _cell(page, _pointers(page, header)[0], rowid=rowid)


def _cell(page: bytes, place: int, *, rowid: bool) -> bytes:
    size, end = _number(page, place)
    if rowid:
        _, end = _number(page, end)
    return bytes(page[place : end + size])


def _number(page: bytes, place: int) -> tuple[int, int]:
    """Read a number of SQLite's variable length, and tell where it ends."""
    value = 0
    while page[place] & 0x80:
        value = value << 7 | page[place] & 0x7F
        place += 1
    return value << 7 | page[place], place + 1


def _leading(children: list[tuple[int, bytes]], last: int, kind: int, begin: int = 0) -> bytes:
    """Make a page that leads to others; its own header begins at `begin`."""
    return _page([struct.pack(">I", child) + key for child, key in children], kind, begin, struct.pack(">I", last))


def _leaf(cells: list[bytes]) -> bytes:
    return _page(cells, _TABLE + 8, 0, b"")


def _page(cells: list[bytes], kind: int, begin: int, last: bytes) -> bytes:
    page, end, places = bytearray(PAGE), PAGE, []
    for cell in cells:
        end -= len(cell)
        page[end : end + len(cell)] = cell
        places.append(end)
    header = struct.pack(">BHHHB", kind, 0, len(cells), end, 0) + last + struct.pack(f">{len(places)}H", *places)
    page[begin : begin + len(header)] = header
    return bytes(page)


ENDLESS = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"


def _edited(old: str, new: str) -> Callable[[Path], None]:
    """Give what changes the text of the schema behind SQLite's back."""
    assert old != new
    edit = f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}')"
    return lambda path: changed(path, "PRAGMA writable_schema = ON", edit)


def _many_tables(path: Path) -> None:
    changed(path, "BEGIN", *(f"CREATE TABLE t{number} (x)" for number in range(1500)), "COMMIT")


def _view(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        columns = [name for _, name, *_ in database.execute("PRAGMA table_info(folder)")]
    chosen = ", ".join(f"x AS {name}" for name in columns)
    changed(path, "DROP TABLE folder", f"CREATE VIEW folder AS {ENDLESS} SELECT {chosen} FROM c WHERE x < 0")


TRAPS: dict[str, Callable[[Path], None]] = {
    "a trigger that drops what is stored": lambda path: changed(
        path, "CREATE TRIGGER t BEFORE INSERT ON folder BEGIN SELECT RAISE(IGNORE); END"
    ),
    "a trigger that does what it likes": lambda path: changed(
        path, "CREATE TRIGGER t AFTER DELETE ON records BEGIN DELETE FROM folder; END"
    ),
    "a view without an end for a table": _view,
    "a view beside the tables": lambda path: changed(path, "CREATE VIEW v AS SELECT 1"),
    "one more table": lambda path: changed(path, "CREATE TABLE more (x)"),
    "one more index": lambda path: changed(path, "CREATE INDEX more ON folder (entries)"),
    "an index that computes": lambda path: changed(path, "CREATE INDEX more ON records (abs(part))"),
    "a virtual table": lambda path: changed(path, "CREATE VIRTUAL TABLE more USING fts5(x)"),
    "statistics": lambda path: changed(path, "ANALYZE"),
    "a table too few": lambda path: changed(path, "DROP TABLE fact"),
    "a column that computes": lambda path: changed(path, "ALTER TABLE folder ADD COLUMN c AS (abs(entries))"),
    "a condition": _edited("value REAL NOT NULL", "value REAL CHECK (value > 0)"),
    "another default": _edited("part INTEGER NOT NULL", "part INTEGER NOT NULL DEFAULT 7"),
    "another order": _edited("value REAL NOT NULL", "value REAL NOT NULL COLLATE NOCASE"),
    "text that is no UTF-8": lambda path: patched(path, path.read_bytes().index(b"value REAL"), b"v\xff\xfe"),
    "two tables in one place": lambda path: changed(
        path,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'fact')"
        " WHERE name = 'unheld'",
    ),
    "hundreds of tables": _many_tables,
    "a megabyte of text": lambda path: changed(path, f"CREATE TABLE more (x DEFAULT '{'y' * 1_000_000}')"),
    "a schema without end": schema_without_end,
    "a log beside it": lambda path: patched(path, 18, b"\2\2"),
    "another encoding": lambda path: patched(path, 56, b"\0\0\0\2"),
    "a cache of any size": lambda path: patched(path, 48, b"\x7f\xff\xff\xff"),
    "a file that shrinks by itself": lambda path: patched(path, 52, b"\0\0\0\4"),
}
"""Ways to make a file that has our marks, and is none that any version of Truecopy makes."""
