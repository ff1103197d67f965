"""The mount table: mount types and flags, locations of folders on their file systems, file systems of a mirror.

Over bind mounts or container volumes one folder can be inside another although their paths differ; their locations on
the file system show it. A device or set-ID program without effect in the source (nodev, nosuid) must have none in the
mirror. A device number does not identify a file system: two USB disks attached in turn get the same one.
"""

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from fcntl import ioctl
from functools import lru_cache
from typing import NamedTuple

from job.core.file_systems import SUBVOLUME, FileSystemId
from job.fs.dircursor import DirCursor, closing_fd

SERVED_TYPES = ("fuse", "nfs", "cifs", "smb", "9p", "ncp", "afs", "ceph", "virtiofs")
"""Prefixes of file system types that a server or another process provides."""


class Mount(NamedTuple):
    """A line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""

    device: tuple[int, int]
    root: bytes
    """Path of the mounted folder on its own file system."""
    point: bytes
    type: str
    options: str
    """Of this mount and of the file system."""
    number: int
    """The mount ID, also in /proc/PID/fdinfo."""
    source: str
    """The device, the server's folder, or a name that the file system chose."""


def mount_table() -> list[Mount]:
    """List the mounts of this process's namespace; empty without /proc."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            return [_parse(line) for line in file]
    except OSError:
        return []


@lru_cache(1024)  # a start reads the table sixteen times
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
    """Return the type of the file system with this device number, such as `ext4`; empty if unknown."""
    wanted = os.major(device), os.minor(device)
    return next((mount.type for mount in mount_table() if mount.device == wanted), "")


def mount_of(descriptor: int, listed: list[Mount] | None = None) -> Mount | None:
    """Return the mount of an open file or folder, from the `listed` mounts or a new list; None if unknown.

    Its device is that of the file system, also in a btrfs subvolume, where `stat` returns another one.
    """
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
            number = next(int(line.partition(b":")[2]) for line in file if line.startswith(b"mnt_id:"))
    except (OSError, ValueError, StopIteration):
        return None
    return next((mount for mount in (mount_table() if listed is None else listed) if mount.number == number), None)


def _below(folder: int, listed: list[Mount]) -> Iterator[tuple[bytes, Mount]]:
    """Yield the `listed` mounts below an open folder, with their relative paths."""
    path = _path_of(folder)
    for each in listed:
        if path and each.point != path and _lies_in(each.point, path):
            yield each.point[len(path.rstrip(b"/")) + 1 :], each


def location_of(descriptor: int, mount: Mount | None = None) -> tuple[tuple[int, int], bytes] | None:
    """Return the device of an open folder, on this `mount` if given, and its path on that file system.

    None if unknown.
    """
    path = _path_of(descriptor)
    return _place_of(path, mount_table() if mount is None else [mount]) if path else None


def _path_of(descriptor: int) -> bytes:
    """Return the path of an open file or folder; empty if unknown."""
    try:
        return os.fsencode(os.readlink(f"/proc/self/fd/{descriptor}"))
    except OSError:
        return b""


def _place_of(path: bytes, mounts: list[Mount]) -> tuple[tuple[int, int], bytes] | None:
    # Of several mounts at one point the last hides the others; `max` takes the first of equal ones.
    around = [mount for mount in reversed(mounts) if _lies_in(path, mount.point)]
    best = max(around, key=lambda mount: len(mount.point), default=None)
    if best is None:
        return None
    below = path[len(best.point.rstrip(b"/")) :]
    return best.device, (best.root.rstrip(b"/") + below) or b"/"


def mount_type_at(folder: int) -> str:
    """Return the type of the file system with this root folder; `btrfs subvolume` for one without a mount.

    Empty if unknown. Found by mount ID, because the device of a btrfs subvolume is in no mount table.
    """
    mount, path = mount_of(folder), _path_of(folder)
    if mount is None or not path:
        return ""
    return mount.type if mount.point == path else mount.type + SUBVOLUME


def resolve_path(path: str) -> str:
    """Resolve links as `os.path.realpath` does, but not below the mount points of servers, which may hang."""
    return os.fsdecode(_without_links(path, _servers(mount_table())))


def _servers(mounts: list[Mount]) -> set[bytes]:
    """Return the mount points of servers."""
    return {mount.point for mount in mounts if mount.type.startswith(SERVED_TYPES)}


def _without_links(path: str, opaque: set[bytes]) -> bytes:
    # The working directory may be deleted; an absolute path does not need it.
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
    """Return whether a path is a folder or inside it, across links and bind mounts. Accesses no server."""
    mounts = mount_table()
    here, there = (_without_links(path, _servers(mounts)) for path in (inner, outer))
    places = _place_of(here, mounts), _place_of(there, mounts)
    if places[0] is None or places[1] is None:
        return False
    return _lies_in(here, there) or (places[0][0] == places[1][0] and _lies_in(places[0][1], places[1][1]))


def mounts_below(folder: int) -> list[tuple[bytes, str]]:
    """List other file systems mounted below an open folder: relative path and type."""
    seen = os.fstat(folder).st_dev
    own = os.major(seen), os.minor(seen)
    return sorted((point, each.type) for point, each in _below(folder, mount_table()) if each.device != own)


def mount_points_below(folder: int) -> frozenset[bytes]:
    """Return the relative paths of all mounts below an open folder, those of its own file system as well."""
    return frozenset(point for point, _ in _below(folder, mount_table()))


def _lies_in(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def is_within(inner: int, outer: int) -> bool:
    """Return whether one open folder is the other or inside it, on one file system."""
    here, there = location_of(inner), location_of(outer)
    return here is not None and there is not None and here[0] == there[0] and _lies_in(here[1], there[1])


def is_mounted_below(outer: int, inner: int) -> bool:
    """Return whether a mount below one open folder is the other, contains it, or is inside it."""
    there = location_of(inner)
    if there is None:
        return False
    device, path = there
    return any(
        mount.device == device and (_lies_in(path, mount.root) or _lies_in(mount.root, path))
        for _, mount in _below(outer, mount_table())
    )


def is_read_only(descriptor: int) -> bool:
    """Return whether an open file or folder is on a read-only file system."""
    return bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)


NODEV, NOSUID = "d", "s"


def mount_restrictions(folder: int) -> str:
    """Return the letters `NODEV` and `NOSUID` that apply in an open folder; both if unknown.

    Found by mount, not by device: mounts of one file system may have different options.
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
    """Mount point relative to the mirror's root; empty for the root's file system."""
    type: str
    """From the mount table; empty if unknown."""
    identity: FileSystemId


def file_systems(mirror: int) -> list[FileSystem]:
    """List the file systems of an open mirror: the root's first, then those mounted below it, parents first.

    Btrfs subvolumes and bind mounts of the same file system belong to the enclosing one.
    """
    listed = mount_table()
    own = mount_of(mirror, listed)
    found = [FileSystem(b"", own.type if own else "", identity_of(mirror, own))]
    points = sorted({point for point, _ in _below(mirror, listed)})
    if not points or own is None:
        return found
    devices = {b"": own.device}
    with closing(DirCursor(mirror)) as cursor:
        for point in points:
            with suppress(OSError):  # a mounted file, or an inaccessible folder: reported when it is synced
                folder = cursor.goto(point)
                mount = mount_of(folder)  # a new list: opening a folder may trigger an automount
                if mount is not None and mount.device != devices[_enclosing_point(point, devices)]:
                    devices[point] = mount.device
                    found.append(FileSystem(point, mount.type, identity_of(folder, mount)))
    return found


def _enclosing_point(point: bytes, known: dict[bytes, tuple[int, int]]) -> bytes:
    while point not in known:
        point = point.rpartition(b"/")[0]
    return point


def identity_of(folder: int, mount: Mount | None) -> FileSystemId:
    """Return the identity of the file system of an open folder."""
    found, device = os.fstatvfs(folder), os.fstat(folder).st_dev
    proof = _stable_id(found.f_fsid, device) or _uuid_of(folder, mount)
    if mount is None:
        return FileSystemId(proof, f"{device:x}")
    major, minor = mount.device
    place = [f"{major}:{minor}", mount.source]
    if not proof and _is_address(mount.source):
        return FileSystemId(f"address {mount.source}", place[0])
    if not proof and major:
        # Another disk may get this device number and, after a reboot, this sequence number.
        place += [str(found.f_blocks * found.f_frsize), _disk_sequence(major, minor), boot_id()]
    return FileSystemId(proof, " ".join(place))


def _stable_id(number: int, device: int) -> str:
    """Return the f_fsid of a file system; empty if it is 0 or derived from the device number."""
    major, minor = os.major(device), os.minor(device)
    # FAT, exFAT, XFS and NTFS use the kernel's new_encode_dev or huge_encode_dev.
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
    """Find the device in udev's /dev/disk/by-uuid."""
    with suppress(OSError), os.scandir(_BY_UUID) as names:
        for name in names:
            with suppress(OSError):
                there = name.stat().st_rdev
                if (os.major(there), os.minor(there)) == device:
                    return f"uuid {name.name}"
    return ""


def _is_address(source: str) -> bool:
    """Return whether a mount source names a server and a folder there."""
    return source.startswith("//") or (":" in source and not source.startswith("/"))


def _disk_sequence(major: int, minor: int) -> str:
    """Return a disk's sequence number, unique until the next boot."""
    place = f"/sys/dev/block/{major}:{minor}"
    return kernel_text(f"{place}/diskseq") or kernel_text(f"{place}/../diskseq")


def boot_id() -> str:
    """Return the kernel's ID of this boot; empty if unknown."""
    return kernel_text("/proc/sys/kernel/random/boot_id")


def kernel_text(path: str) -> str:
    """Return the text of a file in /proc or /sys, without white space around it; empty if it cannot be read."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


_CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")
_CONTAINERS = {"docker", "oci", "podman"}
"""Values of $container; those of LXC and systemd-nspawn keep their root."""


def is_on_container_layer(folder: int) -> bool:
    """Return whether an open folder lies on the root file system of a container, which is removed with it.

    Told by the mount ID, as a bind mount may have the device of the root. A whole disk that is mounted at the root is
    that of a machine, also where files of an image say otherwise.
    """
    if not is_in_container():
        return False
    listed = mount_table()
    with closing_fd(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
        own, layer = mount_of(folder, listed), mount_of(root, listed)
    if own is None or layer is None or own.number != layer.number:
        return False
    return not (layer.root == b"/" and layer.source.startswith("/dev/"))


def is_in_container() -> bool:
    """Return whether an engine runs this process; LXC and systemd-nspawn are none."""
    engine = os.environ.get("container")  # noqa: SIM112  # as engines write it
    if engine in _CONTAINERS or "KUBERNETES_SERVICE_HOST" in os.environ:
        return True
    return any(map(os.path.lexists, _CONTAINER_FILES)) or "kubepods" in kernel_text("/proc/self/cgroup")
