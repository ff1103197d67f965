"""A disk that writes down what is done to it, and refuses what it is told to refuse: a plugin for nbdkit.

    nbdkit python recorder.py image=FILE record=FILE refuse=FILE

While there is a file `refuse`, every write that has its text in it fails.
"""

import errno
import os
import threading
from pathlib import Path

import nbdkit

from tests.faults.power.record import HEADER

API_VERSION = 2

_given: dict[str, str] = {}
_one_by_one = threading.Lock()


class _Disk:
    def __init__(self) -> None:
        self.image = os.open(_given["image"], os.O_RDWR)
        self.record = os.open(_given["record"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.refuse = Path(_given["refuse"])

    def note(self, offset: int, content: bytes) -> None:
        os.writev(self.record, [HEADER.pack(offset, len(content)), content])

    def refuses(self, content: bytes) -> bool:
        return self.refuse.exists() and self.refuse.read_bytes() in content


def config(key: str, value: str) -> None:
    _given[key] = value


def open(_: bool) -> _Disk:  # noqa: A001, FBT001  # nbdkit calls it so
    return _Disk()


def get_size(disk: _Disk) -> int:
    return os.fstat(disk.image).st_size


def pread(disk: _Disk, buffer: bytearray, offset: int, _: int) -> None:
    os.preadv(disk.image, [buffer], offset)


def pwrite(disk: _Disk, buffer: bytearray, offset: int, _: int) -> None:
    content = bytes(buffer)
    if disk.refuses(content):
        nbdkit.set_error(errno.EIO)
        raise OSError(errno.EIO, "refused")
    with _one_by_one:
        os.pwrite(disk.image, content, offset)
        disk.note(offset, content)


def flush(disk: _Disk, _: int) -> None:
    with _one_by_one:
        disk.note(0, b"")
