"""Says what a mirror lost that a power cut may not take, by nothing but what is on the disk and what was told."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from job.core.entry import TEMP_PREFIX, join
from job.store.codec import decode_records
from tests.faults.generations import ACCESS_ACL
from tests.faults.power.ages import Age, History
from tests.faults.trees import Thing, Tree, tree_of
from tests.index_rows import paths_of

IN_PLACE = {b"sub/metadata only"}
"""What changes in place, one kind of metadata after the other: only its content is always of one age."""

REMOVED = (b"folder-", b"new-")
"""Beginnings of what the growth of a source removes on both sides."""
SOUND = {"ok", "NULL value in hard_link.part"}
"""What SQLite says of a sound index. Of tables without row numbers 3.40 asks the wrong column."""


class Judge:
    """Holds mirrors against a history."""

    def __init__(self, history: History, scratch: Path) -> None:
        self._history = history
        self._scratch = scratch

    def complaints(self, mirror: Path, size: int) -> list[str]:
        """Say everything that is wrong with a mirror whose disk was cut off when the record had such a size."""
        if not mirror.exists():
            lost = any(age.ended <= size or min(age.told.values(), default=size + 1) <= size for age in self._ages)
            return ["the whole mirror is lost"] if lost else []
        tree = {path: thing for path, thing in tree_of(mirror).items() if not _is_temp(path)}
        return [
            *self._torn(tree, size),
            *self._lost(tree, size),
            *self._vanished(mirror, tree, size),
            *self._parted(mirror, size),
            *self._indexed(mirror, tree, size),
        ]

    @property
    def _ages(self) -> list[Age]:
        return self._history.ages

    def _ages_of(self, path: bytes, thing: Thing, size: int) -> list[int]:
        """Tell in which ages, as far as they had been seen, a path was that."""
        until = self._history.newest(size) + 1
        return [number for number in range(until) if _alike(path, self._ages[number].tree.get(path), thing)]

    def _torn(self, tree: Tree, size: int) -> Iterator[str]:
        for path, thing in tree.items():
            if thing.kind != "d" and not self._ages_of(path, thing, size):
                yield f"{path!r} is what it never was: {thing}"

    def _lost(self, tree: Tree, size: int) -> Iterator[str]:
        newest = self._history.newest(size)
        for path in self._history.paths:
            oldest = self._history.acknowledged(path, size)
            if oldest < 0 or self._turned(path, oldest, newest):
                continue
            thing = tree.get(path)
            if thing is None:
                yield f"{path!r} is lost; age {oldest} of it was acknowledged"
            elif thing.kind != "d" and max(self._ages_of(path, thing, size), default=oldest) < oldest:
                yield f"{path!r} is older than age {oldest}, which was acknowledged"
        rest = self._history.at_rest(size)
        if rest is not None:
            # Nothing was under way: even folders, and what changes in place, are as they were.
            wanted = self._ages[rest].tree
            yield from (f"{path!r} is not as acknowledged" for path in wanted if tree.get(path) != wanted[path])

    def _turned(self, path: bytes, oldest: int, newest: int) -> bool:
        """Tell whether a path, or a folder above it, may be making way for something of another kind."""
        above = [path, *(path[:at] for at, byte in enumerate(path) if byte == ord("/"))]
        seen = [self._ages[number].tree for number in range(oldest, newest + 1)]
        return any(len({tree[each].kind for tree in seen if each in tree}) > 1 for each in above)

    def _vanished(self, mirror: Path, tree: Tree, size: int) -> Iterator[str]:
        versions = [tree_of(each) for each in (mirror / ".truecopy" / "versions").glob("*")]
        for number, age in enumerate(self._ages):
            for path, thing in age.tree.items() if age.ended <= size else ():
                held = [each[path].content for each in (tree, *versions) if path in each]
                if thing.kind != "d" and thing.content not in held and not path.startswith(REMOVED):
                    yield f"{path!r} of age {number} is neither in the mirror nor among the versions"

    def _parted(self, mirror: Path, size: int) -> Iterator[str]:
        rest = self._history.at_rest(size)
        if rest is None:
            return
        names = self._ages[rest].linked
        inodes = {os.lstat(os.fsencode(mirror) + b"/" + path).st_ino for path in names if _is_there(mirror, path)}
        if len(inodes) > 1:
            yield f"{names!r} are not one file"

    # The index -------------------------------------------------------------------------------------------------------

    def _indexed(self, mirror: Path, tree: Tree, size: int) -> Iterator[str]:
        with closing(self._opened(mirror / ".truecopy")) as database:
            damage = {told for (told,) in database.execute("PRAGMA integrity_check(10000)")} - SOUND
            if damage:
                yield f"the index is damaged: {damage}"
                return
            known = dict(_records(database))
        for path, ctime_ns in known.items():
            if not self._holds(tree.get(path), path, ctime_ns, size):
                yield f"the index says that {path!r} is held, but it is {tree.get(path)}"
        newest = self._history.newest(size)
        for path in self._history.paths:
            told = self._history.indexed(path, size)
            if told < 0 or self._ages[told].tree[path].kind == "d" or self._turned(path, told, newest):
                continue
            if self._since(path, known.get(path), size) < self._since(path, self._ages[told].born[path], size):
                yield f"{path!r} was told to be copied in age {told}, which the index does not know"

    def _opened(self, state: Path) -> sqlite3.Connection:
        """Open a copy: what is rolled back there is for the next run to roll back, too."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        for name in ("index.sqlite3", "index.sqlite3-journal"):
            if (state / name).exists():
                shutil.copyfile(state / name, self._scratch / name)
        return sqlite3.connect(self._scratch / "index.sqlite3")

    def _holds(self, thing: Thing | None, path: bytes, ctime_ns: int, size: int) -> bool:
        """Tell whether a path is what the index says of it, or newer."""
        newest, since = self._history.newest(size), self._since(path, ctime_ns, size)
        gone = any(path not in self._ages[number].tree for number in range(since, newest + 1))
        if gone or self._turned(path, since, newest):
            return True
        return thing is not None and max(self._ages_of(path, thing, size), default=-1) >= since

    def _since(self, path: bytes, ctime_ns: int | None, size: int) -> int:
        """Tell the age since which a path had such a time in the source; -1 if it has none."""
        until = self._history.newest(size) + 1
        return next((number for number in range(until) if self._ages[number].born.get(path) == ctime_ns), -1)


def _records(database: sqlite3.Connection) -> Iterator[tuple[bytes, int]]:
    """Give the paths that an index knows, with the times of their sources."""
    if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'records'").fetchone():
        paths = paths_of(database)
        for folder, rows in database.execute("SELECT folder, rows FROM records"):
            for name, record in decode_records(rows).items():
                yield join(paths[folder], name), record.source.ctime_ns


def _alike(path: bytes, known: Thing | None, found: Thing) -> bool:
    if known is None or known == found:
        return known == found
    if path in IN_PLACE:
        return (known.kind, known.content) == (found.kind, found.content)
    # An old copy that grants more than its source is narrowed before the new one is made.
    return found.kind == "-" and _unguarded(known, found.mode & known.mode) == _unguarded(found, found.mode)


def _unguarded(thing: Thing, mode: int) -> Thing:
    """Give what it is but for its ACL, which a change of mode changes, too, with such a mode."""
    return thing._replace(mode=mode, xattrs={name: value for name, value in thing.xattrs.items() if name != ACCESS_ACL})


def _is_temp(path: bytes) -> bool:
    return any(name.startswith(TEMP_PREFIX) for name in path.split(b"/"))


def _is_there(mirror: Path, path: bytes) -> bool:
    return os.path.lexists(os.fsencode(mirror) + b"/" + path)
