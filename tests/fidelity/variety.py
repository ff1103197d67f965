"""A tree of some 300 entries with every kind of entry, name, mode, owner, time and attribute that a backup may meet."""

import os
import stat
import struct
import subprocess
from pathlib import Path
from random import Random

from tests.faults.trees import HOSTILE_NAMES
from tests.fidelity.scope import ACCESS, DEFAULT, SECOND, Scope, acl, plain_acl

MIB = 1 << 20
MODES = (0o000, 0o004, 0o200, 0o400, 0o444, 0o500, 0o555, 0o600, 0o640, 0o644, 0o700, 0o755, 0o777)
FOLDER_BITS = (0o1777, 0o2755, 0o2770, 0o3777, 0o1500)
FILE_BITS = (0o4755, 0o2755, 0o6711, 0o1644, 0o2644)
OWNERS = ((1234, 4321), (0, 4321), (65534, 65534), (4_000_000_000, 0))
CAPABILITY = "security.capability"
CAP_NET_RAW = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
DEPTH = 40


def plant(root: Path, scope: Scope) -> None:
    """Plant the tree below a folder that is there; the folder itself gets metadata, too."""
    random = Random(1)
    for part in (_names, _modes, _times, _attributes, _acls, _links, _hard_links, _specials, _nested):
        folder = root / part.__name__[1:]
        folder.mkdir()
        part(folder, scope)
    _contents(root, random)
    if scope.owners:
        _owners(root)
    os.setxattr(root, "user.root", b"of the root")
    root.chmod(0o751)
    os.utime(root, ns=(0, 1_000_000_000_000_000_001))


def write(path: Path, content: bytes = b"content") -> Path:
    path.write_bytes(content)
    return path


def _names(folder: Path, _: Scope) -> None:
    for number, hostile in enumerate(map(os.fsdecode, HOSTILE_NAMES)):
        write(folder / hostile, b"%d\n" % number * number)
        inner = folder / "folders" / hostile
        inner.mkdir(parents=True)
        write(inner / hostile)
    for name in (
        "case",
        "Case",
        "CASE",
        "caf\u00e9",
        "cafe\u0301",
        "\u212b",
        "\u00c5",
        "A\u030a",
        "...",
        "-n",
        "~",
        "#x#",
    ):
        write(folder / name, os.fsencode(name))
    for name in ("Folder", "folder", "\u00e9", "e\u0301"):
        (folder / name).mkdir()
        write(folder / name / name, os.fsencode(name))


def _contents(root: Path, random: Random) -> None:
    folder = root / "contents"
    folder.mkdir()
    for size in (0, 1, 511, 4095, 4096, 4097, 65_536, 300_000, MIB, 5 * MIB + 3):
        write(folder / f"{size} bytes", random.randbytes(size))
    for number in range(20):
        write(folder / f"small {number}", random.randbytes(random.randrange(2000)))
    write(folder / "zeros", bytes(MIB))
    sparse = folder / "sparse"
    sparse.mkdir()
    for name, size, data in (
        ("all hole", 8 * MIB, ()),
        ("hole at the beginning", 8 * MIB, (8 * MIB - 4,)),
        ("hole in the middle", 8 * MIB, (0, 8 * MIB - 4)),
        ("hole at the end", 8 * MIB, (0,)),
        ("many holes", 8 * MIB, (MIB, 3 * MIB + 17, 6 * MIB - 2)),
        ("a small one", 100_001, (50_000,)),
    ):
        with (sparse / name).open("wb") as file:
            for place in data:
                file.seek(place)
                file.write(b"here")
            file.truncate(size)
    reserved = write(folder / "reserved", b"begun")
    subprocess.run(["fallocate", "--keep-size", "--length", str(MIB), str(reserved)], check=True)


def _modes(folder: Path, scope: Scope) -> None:
    for mode in MODES:
        if scope.unreadable or mode & 0o400:
            write(folder / f"file {mode:04o}").chmod(mode)
        if scope.unreadable or mode & 0o500 == 0o500:
            _folder_with_mode(folder, mode)
    for mode in FOLDER_BITS:
        _folder_with_mode(folder, mode)
    for mode in FILE_BITS:
        write(folder / f"file {mode:04o}").chmod(mode)


def _folder_with_mode(folder: Path, mode: int) -> None:
    inner = folder / f"folder {mode:04o}"
    inner.mkdir()
    write(inner / "inside")
    inner.chmod(mode)


def _owners(root: Path) -> None:
    folder = root / "owners"
    folder.mkdir()
    for uid, gid in OWNERS:
        inner = folder / f"of {uid} and {gid}"
        inner.mkdir()
        write(inner / "file")
        (inner / "link").symlink_to("file")
        os.mkfifo(inner / "fifo")
        for path in (*inner.iterdir(), inner):
            os.chown(path, uid, gid, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod(0o755)
    os.chown(root, 1234, 4321)


def _times(folder: Path, scope: Scope) -> None:
    for number, when in enumerate(scope.moments()):
        inner = folder / f"folder {number}"
        inner.mkdir()
        write(inner / "file")
        (inner / "link").symlink_to("file")
        for path in (inner / "file", inner / "link", inner):
            os.utime(path, ns=(0, when), follow_symlinks=False)


def _attributes(folder: Path, scope: Scope) -> None:
    for path in (write(folder / "file"), write(folder / "no content", b""), folder / "folder", folder):
        path.mkdir(exist_ok=True) if path.name == "folder" else None
        for name, value in (("colour", b"blue"), ("binary", bytes(range(256))), ("empty", b""), ("\u00e9 x", b"name")):
            os.setxattr(path, f"user.{name}", value)
    os.setxattr(write(folder / "large"), "user.large", b"\xff" * scope.largest_attribute)
    os.setxattr(write(folder / "long"), "user." + "n" * 250, b"long")
    for mode in (0o400, 0o444, 0o555):
        path = write(folder / f"read-only {mode:o}")
        os.setxattr(path, "user.colour", b"red")
        path.chmod(mode)
    if scope.security:
        path = write(folder / "ping")
        os.chown(path, 1234, 4321)
        os.setxattr(path, CAPABILITY, CAP_NET_RAW)
        for each in (write(folder / "trusted"), folder / "folder"):
            os.setxattr(each, "trusted.note", b"\0\1")


def _acls(folder: Path, scope: Scope) -> None:
    acls = {
        "one user": acl(7),
        "nothing": acl(0),
        "masked": acl(7, mask=4),
        "groups": acl(6, groups=(4321, 5555)),
        "read-only": acl(4, owner=4),
    }
    if scope.unreadable:
        acls["shut"] = acl(7, owner=0, group=0, mask=0)
    for name, value in acls.items():
        os.setxattr(write(folder / f"file, {name}"), ACCESS, value)
    for name, value in (acls | {"plain": plain_acl(7, 5, 0)}).items():
        inner = folder / f"default, {name}"
        inner.mkdir()
        os.setxattr(inner, DEFAULT, value)
        write(inner / "heir")
        (inner / "link").symlink_to("heir")
        if scope.unreadable or name != "read-only":
            (inner / "below").mkdir()
        bare = write(inner / "disinherited")
        os.setxattr(bare, ACCESS, plain_acl(6, 4, 0))
    os.setxattr(folder, ACCESS, acl(5))
    os.setxattr(folder, DEFAULT, acl(5, groups=(4321,)))


def _links(folder: Path, scope: Scope) -> None:
    for name, target in (
        ("dangling", "nowhere/at all"),
        ("loop", "loop"),
        ("one", "other"),
        ("other", "one"),
        ("absolute", "/etc/passwd"),
        ("up", "../.."),
        ("self", "."),
        ("hostile", os.fsdecode(b"\xff\n\x1b[2J")),
        ("long", "t" * scope.longest_target),
        ("to a folder", "../modes"),
    ):
        (folder / name).symlink_to(target)
    for number, name in enumerate(("dangling", "to a folder", "loop")):
        os.utime(folder / name, ns=(0, SECOND * number - 7), follow_symlinks=False)
        if scope.owners:
            os.chown(folder / name, 1234 + number, 4321, follow_symlinks=False)


def _hard_links(folder: Path, _: Scope) -> None:
    (folder / "beside").mkdir()
    (folder / "below/deep").mkdir(parents=True)
    for number in range(6):
        first = write(folder / f"file {number}", b"%d" % number * number)
        for place in ("another", "beside/one", "beside/two", "below/deep/one")[: 1 + number % 4]:
            os.link(first, folder / f"{place} {number}")
    (folder / "link").symlink_to("file 1")
    os.mkfifo(folder / "fifo")
    for name in ("link", "fifo"):
        os.link(folder / name, folder / "beside" / name, follow_symlinks=False)
        os.link(folder / name, folder / f"another {name}", follow_symlinks=False)
    os.setxattr(folder / "file 2", "user.colour", b"shared")
    os.setxattr(folder / "file 3", ACCESS, acl(7))
    (folder / "beside").chmod(0o555)


def _specials(folder: Path, scope: Scope) -> None:
    for mode in (0o600, 0o640, 0o666):
        for what, name in ((stat.S_IFIFO, "fifo"), (stat.S_IFSOCK, "socket")):
            os.mknod(folder / f"{name} {mode:o}", what)
            (folder / f"{name} {mode:o}").chmod(mode)
    if scope.devices:
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(folder / "loop device", stat.S_IFBLK | 0o660, os.makedev(7, 99))
        os.mknod(folder / "high numbers", stat.S_IFCHR | 0o600, os.makedev(300, 70_000))
    for kind in ("fifo", "socket"):
        os.setxattr(folder / f"{kind} 640", ACCESS, acl(6))
    for path in folder.iterdir():
        os.utime(path, ns=(5, 1_234_567_890_123_456_789))


def _nested(folder: Path, _: Scope) -> None:
    """Plant empty folders, a deep chain, and one of folders that are old and read-only, made so from the inside out."""
    for name in ("empty", "empty too"):
        (folder / name).mkdir()
    (folder / "/".join("d" * DEPTH)).mkdir(parents=True)
    write(folder / "/".join("d" * DEPTH) / "bottom")
    chain = [folder / "/".join(("old", "older", "oldest", "first")[:depth]) for depth in range(1, 5)]
    chain[-1].mkdir(parents=True)
    for number, path in enumerate(reversed(chain)):
        write(path / "file").chmod(0o444)
        os.utime(path / "file", ns=(0, number * 1000))
        path.chmod((0o555, 0o500, 0o555, 0o755)[number])
        os.utime(path, ns=(0, number * SECOND + 1))
