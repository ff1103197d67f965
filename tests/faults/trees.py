"""Plant trees that a backup has to survive, and compare trees by content, mode, owner, times, links and xattrs."""

import errno
import hashlib
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import NamedTuple

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NOT_MIRRORED = {b".truecopy", b".stfolder"}
LONG_AGO_NS = 1_234_567_890_123_456_789

HOSTILE_NAMES = (
    b"invalid \xff\xfe utf-8",
    b"two\nlines",
    b'{"level": "info"}\r\n{"event": "file_copied"}',
    b"\x1b[2J\x1b[31mred\x1b[0m",
    b"n" * 255,
    b" leading and trailing ",
    b"-rf",
    b"*?[a]\\$(true)`'\"",
    "\u202egnp.exe \u00e9\U0001f4be".encode(),
    b"\x9b31m c1 and \x7f",
    b"%s{0}{path}",
)


class Thing(NamedTuple):
    """What a comparison looks at."""

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    content: object
    xattrs: dict[str, bytes]


Tree = dict[bytes, Thing]


def tree_of(root: Path) -> Tree:
    """Give everything below a root that a mirror holds, the root itself as an empty path."""
    found: Tree = {}
    folder = os.open(root, _FOLDER)
    try:
        _gather(folder, b"", found)
    finally:
        os.close(folder)
    return found


def _gather(folder: int, path: bytes, found: Tree) -> None:
    found[path] = _thing(os.fstat(folder), None, _xattrs(folder))
    for name in sorted(os.fsencode(each) for each in os.listdir(folder)):
        below = path + b"/" + name if path else name
        seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(seen.st_mode):
            if name not in _NOT_MIRRORED:
                inner = os.open(name, _FOLDER, dir_fd=folder)
                try:
                    _gather(inner, below, found)
                finally:
                    os.close(inner)
        elif stat.S_ISLNK(seen.st_mode):
            found[below] = _thing(seen, os.readlink(name, dir_fd=folder), {})
        elif stat.S_ISREG(seen.st_mode):
            found[below] = _file(name, folder)


def _file(name: bytes, folder: int) -> Thing:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
    with open(descriptor, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return _thing(os.fstat(descriptor), digest, _xattrs(descriptor))


def _thing(seen: os.stat_result, content: object, xattrs: dict[str, bytes]) -> Thing:
    kind = stat.filemode(seen.st_mode)[0]
    return Thing(kind, stat.S_IMODE(seen.st_mode), (seen.st_uid, seen.st_gid), seen.st_mtime_ns, content, xattrs)


def _xattrs(descriptor: int) -> dict[str, bytes]:
    try:
        names = [name for name in os.listxattr(descriptor) if name.startswith(("user.", "system.posix_acl_"))]
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    return {name: os.getxattr(descriptor, name) for name in names}


def temps_below(root: Path) -> list[bytes]:
    """List leftovers of copies; there are to be none after a run that ended by itself."""
    return [path for path in tree_of(root) if b".truecopy-tmp-" in path]


def entries_below(root: Path) -> int:
    """Count what is no folder, by a program that is not ours."""
    command = ["find", str(root), "-name", ".stfolder", "-prune", "-o", "!", "-type", "d", "-printf", "."]
    return len(subprocess.run(command, capture_output=True, check=True).stdout)


def rsync_differences(source: Path, mirror: Path) -> list[str]:
    """Ask rsync what it would still do to make the mirror equal, every byte read."""
    skipped = ("--exclude=/.truecopy/", "--exclude=.stfolder/", "--no-devices", "--no-specials")
    command = ["rsync", "-niaHX", "--checksum", *skipped, f"{source}/", f"{mirror}/"]
    output = subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="backslashreplace")
    return [line for line in output.splitlines() if not line.startswith("skipping non-regular file")]


def plant(root: Path) -> None:
    """Plant a small tree: hostile names, modes, links, times, xattrs, empty things, and a file of some size."""
    top = os.fsencode(root)
    for number, name in enumerate(HOSTILE_NAMES):
        with open(top + b"/" + name, "wb") as file:
            file.write(b"%d\n" % number * number)
    folder = top + b"/folder \xe9\n/deeper"
    os.makedirs(folder)
    (root / "empty folder").mkdir()
    (root / "empty file").touch()
    (root / "large").write_bytes(os.urandom(3 << 20))
    (root / "old").write_text("old")
    os.utime(root / "old", ns=(LONG_AGO_NS, LONG_AGO_NS))
    (root / "script").write_text("#!/bin/sh\n")
    (root / "script").chmod(0o755)
    (root / "attributes").write_text("with attributes")
    os.setxattr(root / "attributes", "user.colour", b"\0blue\xff")
    _plant_links(top, folder)
    _plant_locked(root)
    (root / ".stfolder").mkdir()
    (root / ".stfolder" / "marker").touch()


def _plant_links(top: bytes, folder: bytes) -> None:
    for target, name in (
        (b"../../old", b"relative"),
        (b"nowhere/at all", b"dangling"),
        (b"loop", b"loop"),
        (b"/etc/passwd", b"absolute"),
        (b"..", b"up"),
        (b"\xff\n\x1b[2J", b"strange target"),
    ):
        os.symlink(target, folder + b"/" + name)
    os.symlink(folder, top + b"/to a folder")


def _plant_locked(root: Path) -> None:
    folder = root / "read-only folder"
    folder.mkdir()
    (folder / "read-only file").write_text("read only")
    (folder / "read-only file").chmod(0o400)
    folder.chmod(0o555)


def unlock(root: Path) -> None:
    """Make everything removable again for a user who is not root."""
    for folder, _, _ in os.walk(os.fsencode(root)):
        os.chmod(folder, 0o700)


def remove(path: Path) -> None:
    """Remove a tree however it is locked."""
    unlock(path)
    shutil.rmtree(path)


def plant_folders(root: Path, count: int) -> None:
    """Make folders for several workers, each with a file and a folder that has another."""
    for number in range(count):
        folder = root / f"folder {number}" / "below"
        folder.mkdir(parents=True)
        (folder / "file").write_text(f"content {number}")
        (folder.parent / "other").write_text(f"other {number}")
