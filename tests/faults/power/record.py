"""What was done to a disk, in order: writes and flushes, and the image that a power cut at any moment leaves."""

import os
import random
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

HEADER = struct.Struct("<QQ")
"""Offset and length of what follows; a flush has no length."""

SECTOR = 512


class Deed(NamedTuple):
    """A write, or a flush, which has no length."""

    offset: int
    length: int
    place: int
    """Where in the record the bytes are."""
    end: int
    """How long the record was when it was done."""


@dataclass(frozen=True)
class PowerCut:
    """A moment in a record: everything up to the flush before it is on the disk, and any of the writes since."""

    moment: int
    """How many deeds were done."""
    seed: int
    kept: float
    """The share of unflushed writes that made it."""

    def __str__(self) -> str:
        return f"power cut after {self.moment} deeds, seed {self.seed}, {self.kept:.0%} of unflushed writes kept"


class Record:
    """A finished record of what was done to an image."""

    def __init__(self, file: Path, whole: range) -> None:
        """`whole` is where the file system keeps its superblock, which it takes a disk to write as a whole."""
        self._file = os.open(file, os.O_RDONLY)
        self._whole = whole
        self.deeds = list(self._read(file.stat().st_size))
        self._ends = [deed.end for deed in self.deeds]

    def close(self) -> None:
        os.close(self._file)

    def _read(self, size: int) -> Iterator[Deed]:
        at = 0
        while at + HEADER.size <= size:
            offset, length = HEADER.unpack(os.pread(self._file, HEADER.size, at))
            at += HEADER.size + length
            yield Deed(offset, length, at - length, at)

    def moment(self, size: int) -> int:
        """Tell how many deeds were done when the record had such a size."""
        return bisect_right(self._ends, size)

    def flush_before(self, moment: int) -> int:
        """Tell how many deeds were done when what was done before a moment was flushed last."""
        while moment and self.deeds[moment - 1].length:
            moment -= 1
        return moment

    def replay(self, image: int, begin: int, end: int) -> None:
        """Do to an open image again what was done from one moment to another."""
        for deed in self.deeds[begin:end]:
            self._write(image, deed, 0, deed.length)

    def cut(self, image: int, cut: PowerCut) -> None:
        """Do to an image, which is as it was at the flush before, what a power cut may leave of the writes since."""
        chance = random.Random(cut.seed)
        for deed in self.deeds[self.flush_before(cut.moment) : cut.moment]:
            if chance.random() >= cut.kept:
                continue
            if chance.random() < 0.15 and not self._is_whole(deed):
                for begin in range(0, deed.length, SECTOR):
                    if chance.random() < 0.5:
                        self._write(image, deed, begin, min(begin + SECTOR, deed.length))
            else:
                self._write(image, deed, 0, deed.length)

    def _is_whole(self, deed: Deed) -> bool:
        return deed.offset < self._whole.stop and self._whole.start < deed.offset + deed.length

    def _write(self, image: int, deed: Deed, begin: int, end: int) -> None:
        os.pwrite(image, os.pread(self._file, end - begin, deed.place + begin), deed.offset + begin)
