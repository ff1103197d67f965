"""A file in memory that other processes of this user find, and nobody else can make: it has no place in any folder.

A name in a folder can be taken by others, and a folder may be missing, full or read-only. This file belongs to the
process that keeps it open, and is found among its descriptors in /proc. It ends with the process, however that ends.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress

_LINK = "/memfd:{name} (deleted)"
"""What the link in /proc to an open file in memory says."""
_NEVER_RUN = 0x8
"""MFD_NOEXEC_SEAL, which Linux knows since 6.3, and may insist on (vm.memfd_noexec)."""


class MemoryFile:
    """A file of this process, with one content after the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._descriptor = -1

    def publish(self, content: bytes) -> None:
        """Replace the content as a whole. Raises `OSError`."""
        fresh = _made(self._name)
        try:
            os.fchmod(fresh, 0o600)
            os.write(fresh, content)
            if self._descriptor >= 0:
                os.dup2(fresh, self._descriptor, inheritable=False)  # one or the other is found, and never a part
            else:
                self._descriptor, fresh = fresh, -1
        finally:
            if fresh >= 0:
                os.close(fresh)

    def read(self, most_bytes: int) -> bytes | None:
        """Give the content; None before there was one."""
        return os.pread(self._descriptor, most_bytes, 0) if self._descriptor >= 0 else None

    def close(self) -> None:
        """End it: nobody finds it any more."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def _made(name: str) -> int:
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | _NEVER_RUN)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, os.MFD_CLOEXEC)


def find(name: str, most_bytes: int) -> Iterator[bytes]:
    """Give the content of every file in memory with this name that was made by this user and is open in a process.

    What cannot be looked at is left out.
    """
    with suppress(OSError):
        for process in filter(str.isdecimal, os.listdir("/proc")):
            if _is_ours(process):
                yield from _files_of(process, _LINK.format(name=name), most_bytes)


def _is_ours(process: str) -> bool:
    """Tell whether a process runs as this user in every way: others may have any number of descriptors."""
    # Not by the owner of its folder in /proc, which is root for processes of others, too, that must not be traced.
    ours = b"\t".join([b"Uid:", *[b"%d" % os.geteuid()] * 4])
    with suppress(OSError), open(f"/proc/{process}/status", "rb") as status:
        return ours in status.read().splitlines()
    return False


def _files_of(process: str, link: str, most_bytes: int) -> Iterator[bytes]:
    folder = f"/proc/{process}/fd"
    with suppress(OSError):
        for number in os.listdir(folder):
            with suppress(OSError):
                if os.readlink(f"{folder}/{number}") == link:
                    yield from _content(f"{folder}/{number}", link, most_bytes)


def _content(path: str, link: str, most_bytes: int) -> Iterator[bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        # Meanwhile the number may be that of another file; and others may have theirs handed over to a process of ours.
        if os.readlink(f"/proc/self/fd/{descriptor}") == link and os.fstat(descriptor).st_uid == os.geteuid():
            yield os.read(descriptor, most_bytes)
    finally:
        os.close(descriptor)
