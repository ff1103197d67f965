"""A recorded disk as power cuts leave it: one image after the other, each mounted for a while."""

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.faults.power.ages import History, record_ages
from tests.faults.power.disk_rig import DiskRig
from tests.faults.power.disks import FileSystem, plugged, recorded
from tests.faults.power.record import PowerCut, Record
from tests.faults.tampering import run

SHARES = (0.0, 0.5, 0.5, 0.9, 1.0)
"""Of the unflushed writes, so many make it; by chance."""


@dataclass(frozen=True)
class Scene:
    """A rig whose mirror was on a recorded disk, and what may become of that."""

    rig: DiskRig
    images: Path
    record: Record
    history: History

    def cuts(self, count: int, seed: int) -> list[PowerCut]:
        """Choose moments, in order: right after each exit, with nothing kept that was not flushed, and by chance."""
        chance = random.Random(seed)
        exits = [PowerCut(self.record.moment(size), seed, 0.0) for size in self.history.exits]
        others = count - len(exits)
        begins = [1 + (len(self.record.deeds) - 1) * number // others for number in range(others + 1)]
        by_chance = [
            PowerCut(chance.randint(begin, end), chance.getrandbits(32), chance.choice(SHARES))
            for begin, end in pairwise(begins)
        ]
        return sorted(exits + by_chance, key=lambda cut: cut.moment)

    def size(self, cut: PowerCut) -> int:
        """Tell how long the record was at the moment of a power cut."""
        return self.record.deeds[cut.moment - 1].end

    def after(self, cuts: Iterable[PowerCut]) -> Iterator[PowerCut]:
        """Mount, one after the other, what the disk is after each of the power cuts, which come in order."""
        flushed, broken, done = self.images / "flushed", self.images / "broken", 0
        copy_image(start_in(self.images), flushed)
        for cut in cuts:
            flush = self.record.flush_before(cut.moment)
            with _opened(flushed) as image:
                self.record.replay(image, done, flush)
            done = flush
            copy_image(flushed, broken)
            with _opened(broken) as image:
                self.record.cut(image, cut)
            with plugged(broken, self.rig.disk):
                yield cut


@contextmanager
def recorded_scene(rig: DiskRig, images: Path, system: FileSystem, ages: int) -> Iterator[Scene]:
    """Back up through some ages to a disk that is recorded; it is not mounted any more then."""
    image = system.format(images / "image")
    copy_image(image, start_in(images))
    with recorded(image) as served, rig.on(served.file, system.options):
        run("sync", "-f", str(rig.disk))
        history = record_ages(rig, served, ages)
    record = Record(served.record, system.superblock)
    try:
        yield Scene(rig, images, record, history)
    finally:
        record.close()


def start_in(images: Path) -> Path:
    """Name the image from before anything was recorded."""
    return images / "start"


@contextmanager
def _opened(image: Path) -> Iterator[int]:
    descriptor = os.open(image, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def copy_image(image: Path, to: Path) -> None:
    """Copy an image without its holes."""
    run("cp", "--sparse=always", str(image), str(to))
