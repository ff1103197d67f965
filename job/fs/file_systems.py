"""List the file systems of a mirror, and find out what tells each of them from others.

A device number is no identity: two USB disks that take turns get the same one, and one disk gets several.
"""

import os
from contextlib import closing, suppress
from fcntl import ioctl
from typing import NamedTuple

from job.core.mounts import Identity
from job.fs import mounts
from job.fs.dircursor import Trail

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
    identity: Identity


def file_systems(mirror: int) -> list[FileSystem]:
    """List the file systems of an open mirror: the root's first, then others mounted below it, parents first.

    A subvolume of btrfs, and a folder that is mounted a second time, belong to the file system around them.
    """
    listed = mounts.table()
    own = mounts.mount_of(mirror, listed)
    found = [FileSystem(b"", own.type if own else "", identity_of(mirror, own))]
    points = mounts.points_below(mirror, listed)
    if not points or own is None:
        return found
    devices = {b"": own.device}
    with closing(Trail(mirror)) as trail:
        for point in points:
            with suppress(OSError):  # a mounted file, or a folder that nobody may enter: its visit tells
                folder = trail.goto(point)
                mount = mounts.mount_of(folder)  # listed anew: to open a folder may mount it
                if mount is not None and mount.device != devices[_around(point, devices)]:
                    devices[point] = mount.device
                    found.append(FileSystem(point, mount.type, identity_of(folder, mount)))
    return found


def _around(point: bytes, known: dict[bytes, tuple[int, int]]) -> bytes:
    while point not in known:
        point = point.rpartition(b"/")[0]
    return point


def identity_of(folder: int, mount: mounts.Mount | None) -> Identity:
    """Find out what tells the file system of an open folder from others."""
    found, device = os.fstatvfs(folder), os.fstat(folder).st_dev
    proof = _stable_id(found.f_fsid, device) or _uuid_of(folder, mount)
    if mount is None:
        return Identity(proof, f"{device:x}")
    major, minor = mount.device
    place = [f"{major}:{minor}", mount.source]
    if not proof and _is_address(mount.source):
        return Identity(f"address {mount.source}", place[0])
    if not proof and major:
        # Another disk may get this device number, after a reboot even this number in the sequence of disks.
        place += [str(found.f_blocks * found.f_frsize), _disk_sequence(major, minor), _boot()]
    return Identity(proof, " ".join(place))


def _stable_id(number: int, device: int) -> str:
    """Give the number that a file system identifies itself by, unless it is made of its device number or empty."""
    major, minor = os.major(device), os.minor(device)
    # As the kernel's new_encode_dev and huge_encode_dev do it: FAT, exFAT, XFS, NTFS.
    made_of_device = (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
    low = number & 0xFFFFFFFF
    return "" if number in {0, device, made_of_device} or low == made_of_device else f"fsid {number:x}"


def _uuid_of(folder: int, mount: mounts.Mount | None) -> str:
    kind = mount.type if mount else ""
    if kind == "xfs" and (found := _asked(folder, _XFS_GEOMETRY, 112)):
        return f"uuid {found[64:80].hex()}"
    if kind in _FAT_TYPES and (found := _asked(folder, _FAT_VOLUME, 4)):
        return f"volume {found.hex()}"
    if (found := _asked(folder, _GET_UUID, 17)) and found[0]:
        return f"uuid {found[1 : 1 + found[0]].hex()}"
    return _uuid_by_name(mount.device) if mount and mount.device[0] else ""


def _asked(folder: int, request: int, size: int) -> bytes:
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
