"""Write a content with holes where it is nothing but zeros, for files that take less room than their size says.

Holes of a source that its file system tells of are passed over (`holes.py`), zeros that are read are left out.
"""

import os
import stat

from job.fs.holes import room_of
from job.fs.small_files import write_all

_BLOCK = 4096
_PIECE = 16 * _BLOCK
_ZEROS = bytes(_PIECE)


def is_sparse(found: os.stat_result) -> bool:
    """Tell whether a file takes less room than its size says."""
    return stat.S_ISREG(found.st_mode) and room_of(found) < found.st_size


class Holes:
    """Writes one file from where it stands, passing over zeros. What ends with a hole has to be cut to its length."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def skip(self, count: int) -> None:
        """Leave a hole. Raises `OSError`."""
        os.lseek(self._descriptor, count, os.SEEK_CUR)

    def write(self, chunk: bytes | memoryview) -> None:
        """Write what comes next. Raises `OSError`."""
        for start in range(0, len(chunk), _PIECE):
            piece = bytes(chunk[start : start + _PIECE])
            if piece == _ZEROS[: len(piece)]:
                os.lseek(self._descriptor, len(piece), os.SEEK_CUR)
            else:
                self._write_blocks(piece)

    def _write_blocks(self, piece: bytes) -> None:
        begun = 0
        for start in range(0, len(piece), _BLOCK):
            block = piece[start : start + _BLOCK]
            if block != _ZEROS[: len(block)]:
                continue
            if begun < start:
                write_all(self._descriptor, piece[begun:start])
            os.lseek(self._descriptor, len(block), os.SEEK_CUR)
            begun = start + len(block)
        if begun < len(piece):
            write_all(self._descriptor, piece[begun:])
