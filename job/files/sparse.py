"""Write a content with holes where it is nothing but zeros, without asking a file system where its holes are.

File systems have told of holes where there was data not yet on the disk. So everything is read and hashed, and zeros
are left out in writing only, for files that take less room than their size says. What a hole was is never lost by it:
zeros read from it are the same zeros.
"""

import os
import stat

from job.files.atomic import write_all

_BLOCK = 4096
_PIECE = 16 * _BLOCK
_ZEROS = bytes(_PIECE)
_UNIT = 512
"""Of st_blocks, whatever the file system's own blocks are."""


def is_sparse(found: os.stat_result) -> bool:
    """Tell whether a file takes less room than its size says."""
    return stat.S_ISREG(found.st_mode) and found.st_blocks * _UNIT < found.st_size


class Holes:
    """Writes one file from where it stands, passing over zeros. What ends with a hole has to be cut to its length."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

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
