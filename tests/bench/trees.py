"""Trees to copy: grown from a seed, changed by a share, listed with checksums, compared.

A tree holds plain files and folders that are not empty, since that is what every tool in the comparison carries over;
what only some of them keep (links, ownership, extended attributes) would make them do different work.
"""

import hashlib
import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

FILES_A_FOLDER = 10
FOLDERS_A_FOLDER = 8
TYPICAL_FILE = 2048
LARGEST_FILE = 256 * 1024
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


def grow(root: Path, files: int, seed: int = 1) -> None:
    """Make a tree of so many small files; the same seed makes the same tree.

    Ten files a folder, eight folders a folder; sizes are log-normal around 2 KiB; old times, as real files have.
    """
    dice = random.Random(seed)
    for number in range(files):
        folder = root / _folder(number // FILES_A_FOLDER)
        if number % FILES_A_FOLDER == 0:
            folder.mkdir(parents=True, exist_ok=True)
        size = min(int(dice.lognormvariate(0, 1.2) * TYPICAL_FILE), LARGEST_FILE)
        mode = 0o755 if dice.random() < EXECUTABLE_SHARE else 0o644
        path = folder / f"file {number:07d} ä.dat"
        path.write_bytes(dice.randbytes(size))
        path.chmod(mode)
        _make_old(path, dice)


def grow_large(root: Path, size: int, seed: int = 1) -> None:
    """Make a folder with a single file of so many bytes."""
    dice = random.Random(seed)
    root.mkdir(parents=True)
    path = root / "large.bin"
    with path.open("wb") as file:
        for start in range(0, size, BLOCK):
            file.write(dice.randbytes(min(BLOCK, size - start)))
    path.chmod(0o644)
    _make_old(path, dice)


def change(root: Path, share: float, turn: int) -> int:
    """Rewrite a share of the files in place, about half of them with another size; tell how many, at least one.

    Each turn takes other files, until all had theirs: rsync compares times by whole seconds, and would rightly by its
    own rules pass over a file that is rewritten twice within one.
    """
    dice = random.Random(turn)
    paths = sorted(path for path, is_folder in _below(root) if not is_folder)
    random.Random(0).shuffle(paths)
    count = max(1, round(len(paths) * share))
    start = turn * count % len(paths)
    chosen = (paths + paths)[start : start + count]
    for path in chosen:
        size = os.stat(path).st_size + dice.choice((0, 137))
        with open(path, "r+b") as file:
            file.write(dice.randbytes(max(size, 1)))
    return len(chosen)


def listing(root: Path) -> dict[str, Fact]:
    """Read a whole tree: path below the root to what has to be the same."""
    start = len(os.fspath(root)) + 1
    return {path[start:]: _fact(path, is_folder=is_folder) for path, is_folder in _below(root)}


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


def _folder(number: int) -> Path:
    """Number folders as a heap does, so that no folder is empty and the depth grows with the logarithm."""
    names: list[str] = []
    while number:
        names.append(f"folder {number:06d}")
        number = (number - 1) // FOLDERS_A_FOLDER
    return Path(*reversed(names))


def _make_old(path: Path, dice: random.Random) -> None:
    mtime_ns = OLDEST_NS + dice.randrange(AGES_NS)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def _below(root: str | Path) -> Iterator[tuple[str, bool]]:
    waiting = [os.fspath(root)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder and entry.name == STATE_FOLDER:
                    continue
                if is_folder:
                    waiting.append(entry.path)
                yield entry.path, is_folder


def _fact(path: str, *, is_folder: bool) -> Fact:
    status = os.lstat(path)
    if is_folder:
        return Fact(status.st_mode, 0, "")
    with open(path, "rb") as file:
        return Fact(status.st_mode, status.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest())
