"""Other programs that change files at the worst moment, and parts that fail on request."""

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from job.core.entry import Entry
from job.core.record import Compared, Copied, Record
from job.engine.cycle import OpenContext
from job.engine.volumes import Tools
from job.fs.copier import Copier
from job.fs.small_copies import Left, PlainCopier, PlainCopy
from tests.engine.workshop import changed, with_tools

Moment = Callable[[Path], object]
"""What happens then; it is given the path of the file it happens to."""


def nothing(_: Path) -> None:
    """Let it pass."""


class InterferingCopier(Copier):
    """The real copier; somebody else acts before a file is copied, and after one was hashed where it lies."""

    def __init__(self, real: Copier, before_copy: Moment, after_checksum: Moment) -> None:
        self.__dict__ = real.__dict__
        self.before_copy = before_copy
        self.after_checksum = after_checksum

    def copy(self, listed: Entry, source: int, mirror: int, temp: bytes) -> Copied:
        self.before_copy(_path(listed, source))
        return super().copy(listed, source, mirror, temp)

    def copy_link(self, listed: Entry, source: int, mirror: int, temp: bytes) -> Copied:
        self.before_copy(_path(listed, source))
        return super().copy_link(listed, source, mirror, temp)

    def checksum(self, listed: Entry, folder: int, algorithm: str | None = None) -> tuple[str, Entry]:
        found = super().checksum(listed, folder, algorithm)
        self.after_checksum(_path(listed, folder))
        return found

    def compare(self, listed: Entry, source: int, mirror: Entry, mirror_folder: int) -> Compared:
        found = super().compare(listed, source, mirror, mirror_folder)
        self.after_checksum(_path(listed, source))
        self.after_checksum(_path(mirror, mirror_folder))
        return found

    def confirmed(self, records: Iterable[Record], source: int, mirror: int) -> list[Record]:
        found: list[Record] = []
        for record in records:
            found += super().confirmed([record], source, mirror)
            self.after_checksum(_path(record.source, source))
            self.after_checksum(_path(record.mirror, mirror))
        return found

    def plain(self, now_ns: Callable[[], int]) -> PlainCopier:
        return InterferingPlainCopier(super().plain(now_ns), self.before_copy)


class InterferingPlainCopier(PlainCopier):
    """The real copier of plain files; somebody else acts before each file is copied."""

    def __init__(self, real: PlainCopier, before_copy: Moment) -> None:
        self.__dict__ = real.__dict__ | {"before_copy": before_copy}

    def copy(self, listed: Sequence[Entry], source: int, *rest: Any, **options: Any) -> Any:
        done: list[PlainCopy] = []
        left: list[Left] = []
        for entry in listed:
            try:
                self.__dict__["before_copy"](_path(entry, source))
            except OSError:
                left.append((entry, None))  # it meets the same error there
                continue
            copied, not_plain = super().copy([entry], source, *rest, **options)
            done += copied
            left += not_plain
        return done, left


def _path(listed: Entry, folder: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{folder}")) / os.fsdecode(listed.name)


def interfered(before_copy: Moment = nothing, after_checksum: Moment = nothing) -> OpenContext:
    """Lay out a bench at which somebody else acts, too."""

    def exchange(tools: Tools) -> Tools:
        return tools._replace(copier=InterferingCopier(tools.copier, before_copy, after_checksum))

    return changed(lambda context: with_tools(context, exchange))


def at(path: Path, action: Moment, on: Path) -> Moment:
    """Have `action` done on one file at the moment when `path` has its turn."""
    return lambda now: action(on) if now == path else None


def failing(*calls: int, error: int = errno.EIO) -> Callable[[], None]:
    """Give a disk of which the calls of these numbers, from 1, fail."""
    left = iter(range(1, 1000))

    def call() -> None:
        if next(left) in calls:
            raise OSError(error, os.strerror(error))

    return call


def remove(path: Path) -> None:
    path.unlink()


def rewrite(path: Path) -> None:
    """Put another file under the name."""
    fresh = path.with_name("fresh")
    fresh.write_text("of somebody else")
    fresh.rename(path)


def edit(path: Path) -> None:
    """Change the content in place; its size stays."""
    with path.open("r+") as file:
        file.write("XX")


def edit_in_secret(path: Path) -> None:
    """Change the content in place; size and time stay."""
    before = path.stat()
    edit(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
