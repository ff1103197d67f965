"""Overwrite a file, chunk after chunk, without end: `python writer.py FILE`."""

import os
import struct
import sys

CHUNK = 65_536
CHUNKS = 80 * 16
_STRIDE = 501
"""Chunks from one write to the next: a reader that goes straight on is overtaken all the time."""


def chunk(number: int) -> bytes:
    """Give a chunk that is a number all through."""
    return struct.pack("<Q", number) * (CHUNK // 8)


def place_of(number: int) -> int:
    """Say which of the file's chunks a number is written to."""
    return number * _STRIDE % CHUNKS


def main(path: str) -> None:
    """Write until somebody ends it."""
    file = os.open(path, os.O_WRONLY)
    number = CHUNKS
    while True:
        os.pwrite(file, chunk(number), place_of(number) * CHUNK)
        number += 1
        if number == CHUNKS + 8:
            sys.stdout.write("begun\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
