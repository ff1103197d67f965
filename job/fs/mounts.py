"""Read the kernel's mount table: file system types, and where a folder lies on its own file system.

Two folders reached over different bind mounts (or container volumes) can be one inside the other although no path
says so. Their places on the file system say so.
"""

import os
from dataclasses import dataclass

from job.core.left_out import SUBVOLUME

SERVERS = ("fuse", "nfs", "cifs", "smb", "9p", "ncp", "afs", "ceph", "virtiofs")
"""How the types of file systems begin that a server or another program provides."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""

    device: tuple[int, int]
    root: bytes
    """Path of the mounted folder on its own file system."""
    point: bytes
    type: str
    options: str
    """Of this mount and of the file system."""
    number: int
    """By which the kernel tells it from other mounts, in /proc/PID/fdinfo too."""
    source: str
    """What is mounted: a device, a server's folder, or whatever the file system calls it."""


def table() -> list[Mount]:
    """List the mounts this process sees; empty where there is no /proc."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            return [_parse(line) for line in file]
    except OSError:
        return []


def _parse(line: bytes) -> Mount:
    before, _, after = line.partition(b" - ")
    number, _, device, root, point, own = before.split(b" ")[:6]
    major, _, minor = device.partition(b":")
    kind, source, *_, general = after.rstrip(b"\n").split(b" ")
    return Mount(
        device=(int(major), int(minor)),
        root=_unescaped(root),
        point=_unescaped(point),
        type=os.fsdecode(kind),
        options=os.fsdecode(own + b"," + general),
        number=int(number),
        source=os.fsdecode(_unescaped(source)),
    )


def _unescaped(path: bytes) -> bytes:
    for code, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        path = path.replace(code, character)
    return path


def file_system_type(device: int) -> str:
    """Name the type of the file system with this device number, such as `ext4`; empty if unknown."""
    wanted = os.major(device), os.minor(device)
    return next((mount.type for mount in table() if mount.device == wanted), "")


def mount_of(descriptor: int, listed: list[Mount] | None = None) -> Mount | None:
    """Find the mount by which an open file or folder was reached, among those that were `listed` just now, or anew.

    None if the kernel does not say.

    Its device is the file system's own, also in a subvolume of btrfs, which has a device number for `stat` only.
    """
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
            number = next(int(line.partition(b":")[2]) for line in file if line.startswith(b"mnt_id:"))
    except (OSError, ValueError, StopIteration):
        return None
    return next((mount for mount in (table() if listed is None else listed) if mount.number == number), None)


def points_below(folder: int, listed: list[Mount]) -> list[bytes]:
    """Give those of the `listed` mounts that are below an open folder, as paths from there; parents first."""
    try:
        path = os.fsencode(os.readlink(f"/proc/self/fd/{folder}"))
    except OSError:
        return []
    start = len(path.rstrip(b"/")) + 1
    return sorted({each.point[start:] for each in listed if each.point != path and _lies_in(each.point, path)})


def place(descriptor: int) -> tuple[tuple[int, int], bytes] | None:
    """Tell where an open folder lies: device, and path on that file system. None if the table does not say."""
    try:
        path = os.fsencode(os.readlink(f"/proc/self/fd/{descriptor}"))
    except OSError:
        return None
    return _place_of(path, table())


def _place_of(path: bytes, mounts: list[Mount]) -> tuple[tuple[int, int], bytes] | None:
    best: Mount | None = None
    for mount in mounts:
        if _lies_in(path, mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    if best is None:
        return None
    below = path[len(best.point.rstrip(b"/")) :]
    return best.device, (best.root.rstrip(b"/") + below) or b"/"


def kind_at(folder: int) -> str:
    """Name the type of the file system that an open folder is the root of; `btrfs subvolume` for one without a mount.

    Empty if the kernel does not say. By the mount that the folder was opened on: its device may be in no mount table,
    as that of a btrfs subvolume.
    """
    try:
        with open(f"/proc/self/fdinfo/{folder}", "rb") as file:
            number = next(int(line.split()[1]) for line in file if line.startswith(b"mnt_id:"))
        path = os.fsencode(os.readlink(f"/proc/self/fd/{folder}"))
    except (OSError, StopIteration, ValueError):
        return ""
    mount = next((each for each in table() if each.number == number), None)
    if mount is None:
        return ""
    return mount.type if mount.point == path else mount.type + SUBVOLUME


def resolved(path: str) -> str:
    """Resolve the links in a path, as `os.path.realpath` does, but ask no server, for it may hang.

    Links behind the mount point of a server are not resolved.
    """
    return os.fsdecode(_without_links(path, _servers(table())))


def _servers(mounts: list[Mount]) -> set[bytes]:
    """Give where servers are mounted."""
    return {mount.point for mount in mounts if mount.type.startswith(SERVERS)}


def _without_links(path: str, opaque: set[bytes]) -> bytes:
    # The working directory may be gone, and an absolute path does not need it.
    absolute = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    waiting = os.fsencode(absolute).split(b"/")[::-1]
    here, left = b"/", 40
    while waiting:
        name = waiting.pop()
        if name in {b"", b"."}:
            continue
        if name == b"..":
            here = os.path.dirname(here)
            continue
        there = os.path.join(here, name)
        try:
            target = b"" if here in opaque or not left else os.readlink(there)
        except OSError:
            target = b""
        if not target:
            here = there
            opaque = opaque | {there} if os.path.dirname(there) in opaque else opaque
            continue
        left -= 1
        here = b"/" if target.startswith(b"/") else here
        waiting += target.split(b"/")[::-1]
    return here


def is_below(inner: str, outer: str) -> bool:
    """Tell whether a path lies in a folder or is it, whatever links or bind mounts lead there. No server is asked."""
    mounts = table()
    here, there = (_without_links(path, _servers(mounts)) for path in (inner, outer))
    places = _place_of(here, mounts), _place_of(there, mounts)
    if places[0] is None or places[1] is None:
        return False
    return _lies_in(here, there) or (places[0][0] == places[1][0] and _lies_in(places[0][1], places[1][1]))


def others_below(folder: int) -> list[tuple[bytes, str]]:
    """List where other file systems are mounted below an open folder: path from there, and type."""
    seen = os.fstat(folder).st_dev
    own = os.major(seen), os.minor(seen)
    try:
        path = os.fsencode(os.readlink(f"/proc/self/fd/{folder}"))
    except OSError:
        return []
    start = len(path.rstrip(b"/")) + 1
    below = [each for each in table() if each.device != own and each.point != path and _lies_in(each.point, path)]
    return sorted((each.point[start:], each.type) for each in below)


def _lies_in(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def is_within(inner: int, outer: int) -> bool:
    """Tell whether one open folder is, or lies inside, the other on their common file system."""
    here, there = place(inner), place(outer)
    return here is not None and there is not None and here[0] == there[0] and _lies_in(here[1], there[1])


def shows(outer: int, inner: int) -> bool:
    """Tell whether something mounted below one open folder is the other, holds it, or is a part of it."""
    there = place(inner)
    try:
        path = os.fsencode(os.readlink(f"/proc/self/fd/{outer}"))
    except OSError:
        return False
    if there is None:
        return False
    device, below = there
    return any(
        mount.device == device and (_lies_in(below, mount.root) or _lies_in(mount.root, below))
        for mount in table()
        if mount.point != path and _lies_in(mount.point, path)
    )
