"""The mount table: types and flags of mounts, places of folders on their file systems, file systems of a mirror.

Two folders reached over different bind mounts or container volumes can be one inside the other although no path says
so; their places on the file system do. A device or set-ID program without effect in the source (nodev, nosuid) must
have none in the mirror. A device number identifies no file system: two USB disks in turn get the same one.
"""

import os
from contextlib import closing, suppress
from dataclasses import dataclass
from fcntl import ioctl
from typing import NamedTuple

from job.core.mounts import SUBVOLUME, FileSystemId
from job.fs.dircursor import DirCursor

SERVED_TYPES = ("fuse", "nfs", "cifs", "smb", "9p", "ncp", "afs", "ceph", "virtiofs")
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


def mount_table() -> list[Mount]:
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
    return next((mount.type for mount in mount_table() if mount.device == wanted), "")


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
    return next((mount for mount in (mount_table() if listed is None else listed) if mount.number == number), None)


def mount_points_below(folder: int, listed: list[Mount]) -> list[bytes]:
    """Give those of the `listed` mounts that are below an open folder, as paths from there; parents first."""
    try:
        path = os.fsencode(os.readlink(f"/proc/self/fd/{folder}"))
    except OSError:
        return []
    start = len(path.rstrip(b"/")) + 1
    return sorted({each.point[start:] for each in listed if each.point != path and _lies_in(each.point, path)})


def location_of(descriptor: int) -> tuple[tuple[int, int], bytes] | None:
    """Tell where an open folder lies: device, and path on that file system. None if the table does not say."""
    try:
        path = os.fsencode(os.readlink(f"/proc/self/fd/{descriptor}"))
    except OSError:
        return None
    return _place_of(path, mount_table())


def _place_of(path: bytes, mounts: list[Mount]) -> tuple[tuple[int, int], bytes] | None:
    best: Mount | None = None
    for mount in mounts:
        if _lies_in(path, mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    if best is None:
        return None
    below = path[len(best.point.rstrip(b"/")) :]
    return best.device, (best.root.rstrip(b"/") + below) or b"/"


def mount_type_at(folder: int) -> str:
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
    mount = next((each for each in mount_table() if each.number == number), None)
    if mount is None:
        return ""
    return mount.type if mount.point == path else mount.type + SUBVOLUME


def resolve_path(path: str) -> str:
    """Resolve the links in a path, as `os.path.realpath` does, but ask no server, for it may hang.

    Links behind the mount point of a server are not resolved.
    """
    return os.fsdecode(_without_links(path, _servers(mount_table())))


def _servers(mounts: list[Mount]) -> set[bytes]:
    """Give where servers are mounted."""
    return {mount.point for mount in mounts if mount.type.startswith(SERVED_TYPES)}


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
    mounts = mount_table()
    here, there = (_without_links(path, _servers(mounts)) for path in (inner, outer))
    places = _place_of(here, mounts), _place_of(there, mounts)
    if places[0] is None or places[1] is None:
        return False
    return _lies_in(here, there) or (places[0][0] == places[1][0] and _lies_in(places[0][1], places[1][1]))


def mounts_below(folder: int) -> list[tuple[bytes, str]]:
    """List where other file systems are mounted below an open folder: path from there, and type."""
    seen = os.fstat(folder).st_dev
    own = os.major(seen), os.minor(seen)
    try:
        path = os.fsencode(os.readlink(f"/proc/self/fd/{folder}"))
    except OSError:
        return []
    start = len(path.rstrip(b"/")) + 1
    below = [each for each in mount_table() if each.device != own and each.point != path and _lies_in(each.point, path)]
    return sorted((each.point[start:], each.type) for each in below)


def _lies_in(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def is_within(inner: int, outer: int) -> bool:
    """Tell whether one open folder is, or lies inside, the other on their common file system."""
    here, there = location_of(inner), location_of(outer)
    return here is not None and there is not None and here[0] == there[0] and _lies_in(here[1], there[1])


def is_mounted_below(outer: int, inner: int) -> bool:
    """Tell whether something mounted below one open folder is the other, holds it, or is a part of it."""
    there = location_of(inner)
    try:
        path = os.fsencode(os.readlink(f"/proc/self/fd/{outer}"))
    except OSError:
        return False
    if there is None:
        return False
    device, below = there
    return any(
        mount.device == device and (_lies_in(below, mount.root) or _lies_in(mount.root, below))
        for mount in mount_table()
        if mount.point != path and _lies_in(mount.point, path)
    )


NODEV, NOSUID = "d", "s"


def mount_restrictions(folder: int) -> str:
    """Give the letters `NODEV` and `NOSUID` as they hold for what is in an open folder; both if it does not say.

    By the mount and not by the device: one file system may be mounted at several places in different ways.
    """
    try:
        flags = os.fstatvfs(folder).f_flag
    except OSError:
        return NODEV + NOSUID
    return (NODEV if flags & os.ST_NODEV else "") + (NOSUID if flags & os.ST_NOSUID else "")


_GET_UUID = 0x80111500
"""FS_IOC_GETFSUUID (linux/fs.h, since 6.9): a length, and up to 16 bytes."""
_XFS_GEOMETRY = 0x80705864
"""XFS_IOC_FSGEOMETRY_V1 (xfs_fs.h): 112 bytes, the UUID from byte 64 on."""
_FAT_VOLUME = 0x80047213
"""FAT_IOCTL_GET_VOLUME_ID (linux/msdos_fs.h): the volume's serial number, 4 bytes."""
_BY_UUID = "/dev/disk/by-uuid"
_FAT_TYPES = {"vfat", "msdos"}


class FileSystem(NamedTuple):
    """One file system in a mirror."""

    point: bytes
    """Path of its mount point below the mirror's root; empty for the one that holds the root."""
    type: str
    """As the mount table has it; empty if unknown."""
    identity: FileSystemId


def file_systems(mirror: int) -> list[FileSystem]:
    """List the file systems of an open mirror: the root's first, then others mounted below it, parents first.

    A subvolume of btrfs, and a folder that is mounted a second time, belong to the file system around them.
    """
    listed = mount_table()
    own = mount_of(mirror, listed)
    found = [FileSystem(b"", own.type if own else "", identity_of(mirror, own))]
    points = mount_points_below(mirror, listed)
    if not points or own is None:
        return found
    devices = {b"": own.device}
    with closing(DirCursor(mirror)) as cursor:
        for point in points:
            with suppress(OSError):  # a mounted file, or a folder that nobody may enter: its visit tells
                folder = cursor.goto(point)
                mount = mount_of(folder)  # listed anew: to open a folder may mount it
                if mount is not None and mount.device != devices[_enclosing_point(point, devices)]:
                    devices[point] = mount.device
                    found.append(FileSystem(point, mount.type, identity_of(folder, mount)))
    return found


def _enclosing_point(point: bytes, known: dict[bytes, tuple[int, int]]) -> bytes:
    while point not in known:
        point = point.rpartition(b"/")[0]
    return point


def identity_of(folder: int, mount: Mount | None) -> FileSystemId:
    """Find out what tells the file system of an open folder from others."""
    found, device = os.fstatvfs(folder), os.fstat(folder).st_dev
    proof = _stable_id(found.f_fsid, device) or _uuid_of(folder, mount)
    if mount is None:
        return FileSystemId(proof, f"{device:x}")
    major, minor = mount.device
    place = [f"{major}:{minor}", mount.source]
    if not proof and _is_address(mount.source):
        return FileSystemId(f"address {mount.source}", place[0])
    if not proof and major:
        # Another disk may get this device number, after a reboot even this number in the sequence of disks.
        place += [str(found.f_blocks * found.f_frsize), _disk_sequence(major, minor), _boot()]
    return FileSystemId(proof, " ".join(place))


def _stable_id(number: int, device: int) -> str:
    """Give the number that a file system identifies itself by, unless it is made of its device number or empty."""
    major, minor = os.major(device), os.minor(device)
    # As the kernel's new_encode_dev and huge_encode_dev do it: FAT, exFAT, XFS, NTFS.
    made_of_device = (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
    low = number & 0xFFFFFFFF
    return "" if number in {0, device, made_of_device} or low == made_of_device else f"fsid {number:x}"


def _uuid_of(folder: int, mount: Mount | None) -> str:
    kind = mount.type if mount else ""
    if kind == "xfs" and (found := _ioctl_answer(folder, _XFS_GEOMETRY, 112)):
        return f"uuid {found[64:80].hex()}"
    if kind in _FAT_TYPES and (found := _ioctl_answer(folder, _FAT_VOLUME, 4)):
        return f"volume {found.hex()}"
    if (found := _ioctl_answer(folder, _GET_UUID, 17)) and found[0]:
        return f"uuid {found[1 : 1 + found[0]].hex()}"
    return _uuid_by_name(mount.device) if mount and mount.device[0] else ""


def _ioctl_answer(folder: int, request: int, size: int) -> bytes:
    answer = bytearray(size)
    try:
        ioctl(folder, request, answer)
    except OSError:
        return b""
    return bytes(answer) if any(answer) else b""


def _uuid_by_name(device: tuple[int, int]) -> str:
    """Look the device up among the names that udev gives to disks."""
    with suppress(OSError), os.scandir(_BY_UUID) as names:
        for name in names:
            with suppress(OSError):
                there = name.stat().st_rdev
                if (os.major(there), os.minor(there)) == device:
                    return f"uuid {name.name}"
    return ""


def _is_address(source: str) -> bool:
    """Tell whether what is mounted is named by a server and a folder there, which identify it."""
    return source.startswith("//") or (":" in source and not source.startswith("/"))


def _disk_sequence(major: int, minor: int) -> str:
    """Give the number that a disk got when it was attached; no other gets it until the next boot."""
    place = f"/sys/dev/block/{major}:{minor}"
    return _text(f"{place}/diskseq") or _text(f"{place}/../diskseq")


def _boot() -> str:
    return _text("/proc/sys/kernel/random/boot_id")


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""
