"""Go through a huge folder without holding it: by names in chunks, then name by name; added up where order would cost.

What the index knows of a huge mirror folder is a sum over its rows: parts of the folder, visited by different processes
one after the other, add up to the same as one pass over the whole, in whatever order the names come.
"""

import hashlib
import marshal
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import add
from typing import Any, TypeAlias
from zlib import crc32

from job.core.entry import STATE_FOLDER, TEMP_PREFIX
from job.fs.listing import AT_ONCE, CHUNK, Row, Shared, Unreadable, read_rows, row_of, scan

_MARSHAL_VERSION = 2

Sums: TypeAlias = tuple[int, ...]
"""Rows added up, whatever their order: their number, their checksums, and each of their numbers."""
NOTHING: Sums = (0,) * 9


def names_in(folder: int) -> Iterator[list[bytes]]:
    """Give the names in an open folder, some at a time. Raises `OSError`."""
    with scan(folder) as found:
        while names := [item.name.encode("utf-8", "surrogateescape") for item in islice(found, CHUNK)]:
            yield names


def has_name(folder: int, name: bytes) -> bool:
    """Tell whether an open folder has a name; if that cannot be found out, it is taken to have it."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def count_in(folder: int) -> int:
    """Count the names in an open folder. Raises `OSError`."""
    with scan(folder) as found:
        return sum(1 for _ in found)


def rows_named(
    folder: int, names: Iterable[bytes], unreadable: Unreadable, linked: dict[bytes, Shared] | None = None
) -> list[Row]:
    """Examine names of an open folder by lstat, as a listing does; those that are not there are left out.

    `linked` takes the names that share their file with others.
    """
    rows: list[Row] = []
    for name in names:
        try:
            seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
            row = row_of(name, seen)
            rows.append(row)
            if linked is not None and seen.st_nlink > 1 and row[1]:
                linked[name] = Shared(seen.st_dev, seen.st_nlink)
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable.append((name, error))
    return rows


def sums_of(rows: Sequence[Row]) -> Sums:
    """Add up rows or entries of a mirror folder; our own state folder is left out, as it changes with every cycle."""
    plain: list[Any] = [tuple(row) for row in rows if row[0] != STATE_FOLDER]
    if not plain:
        return NOTHING
    _, *numbers = zip(*plain, strict=True)
    checksums = sum([crc32(marshal.dumps(row, _MARSHAL_VERSION)) for row in plain])
    return (len(plain), checksums, *map(sum, numbers))


def added(one: Sums, other: Sums) -> Sums:
    """Add what two parts of a folder add up to."""
    return tuple(map(add, one, other))


def whole_sums(folder: int) -> Sums | None:
    """Add up an open mirror folder; None if a name in it could not be examined. Raises `OSError`."""
    total, unreadable = NOTHING, Unreadable()
    with scan(folder) as found:
        while items := list(islice(found, AT_ONCE)):
            total = added(total, sums_of(read_rows(items, unreadable)))
    return None if unreadable else total


def fingerprint_of_sums(sums: Sums) -> bytes:
    """Hash what a mirror folder adds up to; 16 bytes."""
    return hashlib.blake2b(marshal.dumps(sums, _MARSHAL_VERSION), digest_size=16).digest()


def sweep_temps(folder: int) -> bool:
    """Remove the temps in an open mirror folder; True if there were any. Raises `OSError`."""
    prefix = os.fsdecode(TEMP_PREFIX)
    with scan(folder) as found:
        temps = [each.name for each in found if each.name.startswith(prefix) and not each.is_dir(follow_symlinks=False)]
    for name in temps:
        os.unlink(name, dir_fd=folder)
    return bool(temps)
