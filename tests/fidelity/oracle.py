"""Two judges of a mirror: rsync, every byte read, and a comparison of our own of what rsync does not look at."""

import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_STATE = b".truecopy"
_UNIT = 512
_SPARE_ROOM = 256 << 10
"""Bytes that a mirror's file may take more than its sparse source: file systems reserve ahead."""


class Facts(NamedTuple):
    """What has to be equal of an entry."""

    mode: int
    owner: int
    group: int
    mtime_ns: int
    device: int
    content: object
    attributes: dict[str, bytes]


def left_to_do(source: Path, mirror: Path, *, delete: bool, window: int = -1) -> list[str]:
    """Ask rsync what it would still do to make the mirror equal; nothing, hopefully.

    Times are compared to the nanosecond, or to a `window` of seconds. `delete` makes names that the source does not
    have a difference, too.
    """
    command = ["rsync", "-niaHAXS", "--checksum", f"--modify-window={window}", "--exclude=/.truecopy/"]
    command += ["--delete"] if delete else []
    done = subprocess.run([*command, f"{source}/", f"{mirror}/"], capture_output=True, check=False)
    assert done.returncode == 0, done
    return done.stdout.decode(errors="backslashreplace").splitlines()


def differences(source: Path, mirror: Path, *, lost: frozenset[str] = frozenset()) -> list[str]:
    """Tell in what the mirror's entries differ from those of the source, but for fields that are known to be lost."""
    names = below(source)
    found: list[str] = []
    for name in names:
        ours, theirs = facts_of(source, name), facts_of(mirror, name)
        if theirs is None:
            found.append(f"{name!r} is missing")
        elif ours != theirs:
            found += [
                f"{name!r}: {field} is {is_!r}, not {wanted!r}"
                for field, wanted, is_ in zip(Facts._fields, ours or (), theirs, strict=True)
                if wanted != is_ and field not in lost
            ]
    return found or [*_grouped_otherwise(source, mirror, names), *_filled(source, mirror, names)]


def below(root: Path) -> list[bytes]:
    """Give the path of everything below a root but our own state; the root itself is an empty path."""
    return [b"", *_below(os.fsencode(root), b"")]


def _below(root: bytes, path: bytes) -> Iterator[bytes]:
    with os.scandir(os.path.join(root, path)) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        inner = os.path.join(path, entry.name)
        if inner != _STATE:
            yield inner
            if entry.is_dir(follow_symlinks=False):
                yield from _below(root, inner)


def is_no_folder(root: Path, name: bytes) -> bool:
    return not stat.S_ISDIR(_stat(root, name).st_mode)


def facts_of(root: Path, name: bytes) -> Facts | None:
    """Give what there is to know of an entry; none if it is not there."""
    path = os.path.join(os.fsencode(root), name)
    try:
        seen = os.lstat(path)
    except FileNotFoundError:
        return None
    device = seen.st_rdev if stat.S_ISCHR(seen.st_mode) or stat.S_ISBLK(seen.st_mode) else 0
    attributes = {
        each: os.getxattr(path, each, follow_symlinks=False) for each in os.listxattr(path, follow_symlinks=False)
    }
    content = _content(path, seen)
    return Facts(seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns, device, content, attributes)


def _content(path: bytes, seen: os.stat_result) -> object:
    if stat.S_ISLNK(seen.st_mode):
        return os.readlink(path)
    if not stat.S_ISREG(seen.st_mode):
        return None
    with open(path, "rb", opener=_without_a_trace) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _without_a_trace(path: str | bytes, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _grouped_otherwise(source: Path, mirror: Path, names: list[bytes]) -> Iterator[str]:
    """Find names that share a file in one tree and not in the other."""
    inodes = [(name, _stat(source, name), _stat(mirror, name)) for name in names]
    for side, (one, other) in {"parted": (1, 2), "joined": (2, 1)}.items():
        first: dict[tuple[int, int], tuple[bytes, tuple[int, int]]] = {}
        for each in inodes:
            name, here, there = each[0], _identity(each[one]), _identity(each[other])  # type: ignore[arg-type]
            before, expected = first.setdefault(here, (name, there))
            if expected != there:
                yield f"{name!r} and {before!r} are {side} in the mirror"


def _stat(root: Path, name: bytes) -> os.stat_result:
    return os.lstat(os.path.join(os.fsencode(root), name))


def _identity(seen: os.stat_result) -> tuple[int, int]:
    return seen.st_dev, seen.st_ino


def _filled(source: Path, mirror: Path, names: list[bytes]) -> Iterator[str]:
    """Find sparse files that are not sparse in the mirror."""
    subprocess.run(["sync", "--file-system", str(source), str(mirror)], check=True)
    for name in names:
        ours = _stat(source, name)
        room = ours.st_blocks * _UNIT
        if stat.S_ISREG(ours.st_mode) and room < ours.st_size:
            theirs = _stat(mirror, name).st_blocks * _UNIT
            if theirs > room + _SPARE_ROOM:
                yield f"{name!r} takes {theirs} bytes in the mirror, and {room} in the source"
