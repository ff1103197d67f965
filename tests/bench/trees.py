"""Trees to copy: grown from a seed, changed by a share, compared by content.

A tree holds plain files and folders that are not empty, since that is what every tool in the comparison carries over;
what only some of them keep (links, ownership, extended attributes) would make them do different work.
"""

import hashlib
import os
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from math import log
from pathlib import Path
from typing import NamedTuple

FOLDERS_A_FOLDER = 8
TYPICAL_FOLDER = 5
"""Files in the median folder; the mean is twice that, for a few folders hold hundreds."""
FOLDER_SPREAD = 1.2
TYPICAL_FILE = 3600
FILE_SPREAD = 1.8
"""Of the logarithm: a quarter of the files is below 1.1 kB then, a tenth above 36 kB, one in a thousand above 1 MB."""
LARGEST_FILE = 16 * 1024 * 1024
TINY_FILE = 64
EXECUTABLE_SHARE = 0.05
OLDEST_NS = 1_500_000_000 * 10**9
AGES_NS = 200_000_000 * 10**9
BLOCK = 1024 * 1024

STATE_FOLDER = ".truecopy"
"""Truecopy's own folder at the root of a mirror: no part of the tree."""


class Fact(NamedTuple):
    """What has to be the same on both sides. A folder has a mode only: not every tool keeps its time."""

    mode: int
    mtime_ns: int
    checksum: str


class Compared:
    """Knows what trees hold, and reads one again only when a stat of every file says that something in it moved."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[str, str]] = {}

    def content(self, root: Path) -> str:
        """Give a checksum over paths, modes, times and contents: the same for equal trees."""
        stamp = _digest(root, _stamp)
        known = self._known.get(root)
        if known is None or known[0] != stamp:
            # The stamp is the older of the two: what moves meanwhile makes the next look a full one.
            known = self._known[root] = (stamp, _digest(root, _fact))
        return known[1]


def grow(root: Path, files: int, *, seed: int = 1, tiny: bool = False) -> None:
    """Make a tree of so many files; the same seed makes the same tree.

    Sizes are log-normal around 3.6 kB, up to 16 MiB, as in a checkout with several Pythons; `tiny` files have 64 bytes
    or less, for trees that are looked at and never read. Folders hold ten files in the mean, five in the median.
    """
    dice = random.Random(seed)
    made = number = 0
    while made < files:
        folder = os.path.join(root, _folder(number))
        os.makedirs(folder, exist_ok=True)
        crowd = min(1 + int(dice.lognormvariate(log(TYPICAL_FOLDER), FOLDER_SPREAD)), files - made)
        for _ in range(crowd):
            size = int(dice.random() * TINY_FILE) if tiny else _size(dice)
            _make(f"{folder}/file {made:07d} ä.dat", size, dice)
            made += 1
        number += 1


def grow_large(root: Path, size: int, seed: int = 1) -> None:
    """Make a folder with a single file of so many bytes."""
    dice = random.Random(seed)
    root.mkdir(parents=True)
    path = root / "large.bin"
    with path.open("wb") as file:
        for start in range(0, size, BLOCK):
            file.write(_bytes(min(BLOCK, size - start), dice))
    path.chmod(0o644)
    os.utime(path, ns=_old_times(dice))


def change(root: Path, share: float, turn: int) -> int:
    """Rewrite a share of the files in place, about half of them with another size; tell how many, at least one.

    Each turn takes other files, until all had theirs: rsync compares times by whole seconds, and would rightly by its
    own rules pass over a file that is rewritten twice within one.
    """
    dice = random.Random(turn)
    paths = [path for path, is_folder in _below(root) if not is_folder]
    random.Random(0).shuffle(paths)
    count = max(1, round(len(paths) * share))
    start = turn * count % len(paths)
    chosen = (paths + paths)[start : start + count]
    for path in chosen:
        size = os.stat(path).st_size + dice.choice((0, 137))
        with open(path, "r+b") as file:
            file.write(_bytes(max(size, 1), dice))
    return len(chosen)


def hollow(root: Path) -> None:
    """Cut every file to nothing: gives the room back, and frees no inode."""
    waiting = [os.fspath(root)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    os.truncate(entry.path, 0)


def listing(root: Path) -> dict[str, Fact]:
    """Read a whole tree: path below the root to what has to be the same."""
    start = len(os.fspath(root)) + 1
    return {path[start:]: _fact(path, is_folder) for path, is_folder in _below(root)}


def differences(expected: Mapping[str, Fact], found: Mapping[str, Fact]) -> list[str]:
    """Say in one line each what is missing, what is too much and what differs, sorted by path."""
    lines = []
    for path in sorted(expected.keys() | found.keys()):
        if path not in found:
            lines.append(f"missing: {path!r}")
        elif path not in expected:
            lines.append(f"too much: {path!r}")
        elif expected[path] != found[path]:
            fields = [
                name
                for name, left, right in zip(Fact._fields, expected[path], found[path], strict=True)
                if left != right
            ]
            lines.append(f"different {' and '.join(fields)}: {path!r}")
    return lines


def _folder(number: int) -> str:
    """Number folders as a heap does, so that no folder is empty and the depth grows with the logarithm."""
    names: list[str] = []
    while number:
        names.append(f"folder {number:06d}")
        number = (number - 1) // FOLDERS_A_FOLDER
    return "/".join(reversed(names))


def _size(dice: random.Random) -> int:
    return min(int(dice.lognormvariate(log(TYPICAL_FILE), FILE_SPREAD)), LARGEST_FILE)


def _make(path: str, size: int, dice: random.Random) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        rest = _bytes(size, dice)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fchmod(descriptor, 0o755 if dice.random() < EXECUTABLE_SHARE else 0o644)
        os.utime(descriptor, ns=_old_times(dice))
    finally:
        os.close(descriptor)


@cache
def _noise() -> memoryview:
    return memoryview(random.Random(0).randbytes(2 * LARGEST_FILE))


def _bytes(size: int, dice: random.Random) -> memoryview:
    """Give a piece of one block of noise, since making new noise would take most of the time."""
    start = int(dice.random() * LARGEST_FILE)
    return _noise()[start : start + size]


def _old_times(dice: random.Random) -> tuple[int, int]:
    mtime_ns = OLDEST_NS + dice.randrange(AGES_NS)
    return (mtime_ns, mtime_ns)


def _below(root: Path) -> Iterator[tuple[str, bool]]:
    """Give everything below a folder, in the same order for the same names."""
    waiting = [os.fspath(root)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder and entry.name == STATE_FOLDER:
                    continue
                if is_folder:
                    waiting.append(entry.path)
                yield entry.path, is_folder


def _digest(root: Path, say: Callable[[str, bool], object]) -> str:
    start = len(os.fspath(root)) + 1
    sums = hashlib.sha256()
    for path, is_folder in _below(root):
        sums.update(f"{path[start:]!r} {say(path, is_folder)!r}\n".encode())
    return sums.hexdigest()


def _fact(path: str, is_folder: bool) -> Fact:  # noqa: FBT001 -- the walk says it so, a million times
    status = os.lstat(path)
    if is_folder:
        return Fact(status.st_mode, 0, "")
    with open(path, "rb", buffering=0) as file:
        sums = hashlib.sha256()
        while block := file.read(BLOCK):
            sums.update(block)
        return Fact(status.st_mode, status.st_mtime_ns, sums.hexdigest())


def _stamp(path: str, is_folder: bool) -> tuple[int, ...]:  # noqa: FBT001
    # A user can set none but the mode and the mtime of these: who wrote, moved them all or at least the ctime.
    status = os.lstat(path)
    if is_folder:
        return (status.st_mode,)
    return (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
