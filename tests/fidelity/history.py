"""A random but repeatable history of a source tree.

The mirror keeps what leaves the source, which is why two things never happen here: a name that is gone does not come
back as something else, and no folder gives way to anything but a folder, unless nothing was ever in it. Either may find
a full folder in its way in the mirror and fail, as it should (`type_conflict`).
"""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.fidelity.oracle import below
from tests.fidelity.scope import ACCESS, Scope

Change = Callable[["History"], str]
"""Changes something and tells what; an empty text if there was nothing to do it to."""

_CANNOT = {errno.EXDEV, errno.ENOSPC, errno.EMLINK}
"""Overlays do not rename folders of their lower layer, and attributes may not fit any more."""


class History:
    """A tree that things happen to."""

    def __init__(self, root: Path, seed: int, scope: Scope) -> None:
        self.random = Random(seed)
        self.scope = scope
        self.told: list[str] = [f"seed {seed}"]
        self._root = os.fsencode(root)
        self._names = below(root)
        self._ever = set(self._names)
        self._bare: set[bytes] = set()
        """Folders that nothing was ever in."""

    def go_on(self, changes: tuple[Change, ...], count: int) -> list[str]:
        """Let so many changes happen; gives the whole story."""
        while count:
            self._names = below(Path(os.fsdecode(self._root)))
            self._ever.update(self._names)
            change = self.random.choice(changes)
            try:
                what = change(self)
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise AssertionError(change, self.told) from error
                continue
            if what:
                self.told.append(f"{change.__name__}: {what}")
                count -= 1
        return self.told

    def pick(self, fits: Callable[[bytes], bool]) -> bytes | None:
        """Give the whole path of something in the tree that fits, if there is anything."""
        for name in self.random.sample(self._names[1:], len(self._names) - 1):
            path = os.path.join(self._root, name)
            if fits(path):
                return path
        return None

    def folder(self) -> bytes:
        """Give the whole path of any folder, the root among them, to change it or something in it."""
        path = self.pick(is_folder) if self.random.random() < 0.95 else self._root
        return path or self._root

    def fresh(self, *, near: bytes = b"") -> bytes:
        """Give a whole path that never was, in any folder, or beside something."""
        folder = os.path.dirname(near) if near else self.folder()
        self._bare.discard(folder)
        tail = self.random.choice((b"", b" \xff", b"\n", "\u00e9".encode(), b"x" * 200))
        return os.path.join(folder, b"new %d" % len(self.told) + tail)

    def swapped_case(self, path: bytes) -> bytes | None:
        """Give a name that never was, and differs from another in case only."""
        folder, name = os.path.split(path)
        other = os.path.join(folder, name.swapcase())
        return None if os.path.relpath(other, self._root) in self._ever else other

    def bare(self) -> bytes | None:
        """Give an empty folder that nothing was ever in."""
        return self.pick(lambda path: path in self._bare and is_folder(path) and not os.listdir(path))

    def made_folder(self, path: bytes) -> None:
        """Note a folder that is new to the mirror, too."""
        self._bare.add(path)

    def moved_folders(self) -> None:
        """Forget what was known by paths."""
        self._bare.clear()

    def made_special(self, path: bytes) -> None:
        """Take the ACL away that a FIFO, socket or device got from its folder: those are not mirrored."""
        with suppress(OSError):
            os.removexattr(path, ACCESS, follow_symlinks=False)

    def moment(self) -> int:
        """Give a time in nanoseconds."""
        return self.random.choice(self.scope.moments())

    def shown(self, path: bytes) -> str:
        """Tell a path in a story."""
        return repr(os.path.relpath(path, self._root))


def is_folder(path: bytes) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def is_file(path: bytes) -> bool:
    return stat.S_ISREG(os.lstat(path).st_mode)


def is_link(path: bytes) -> bool:
    return stat.S_ISLNK(os.lstat(path).st_mode)


def is_no_folder(path: bytes) -> bool:
    return not is_folder(path)


def has_a_mode(path: bytes) -> bool:
    return not is_link(path)


def holds_attributes(path: bytes) -> bool:
    return is_file(path) or is_folder(path)
