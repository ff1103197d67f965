"""Somebody who exchanges names all the time, by RENAME_EXCHANGE: what had a name a moment ago has it no more.

As a program it gets, in JSON, a seed and what to exchange: folder, name there, and path of the other thing. It holds
the folders open from the start, so that it never meets its own tricks. It ends, with everything back in place, at the
end of its standard input, and tells how often it exchanged each.
"""

import ctypes
import json
import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

# Nothing heavier: each start of this program would pay for it.
from tests.faults.tampering import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
_EXCHANGE = 2
_LIBC = ctypes.CDLL(None, use_errno=True)
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
_LONGEST_REST_NS = 400_000
_MOST = 40
"""Exchanges in a row before the standard input is looked at."""


class Flip(NamedTuple):
    """What is to be exchanged: `name` in `folder`, with whatever lies at `other`."""

    folder: str
    name: str
    other: str


class Flipper:
    """A flipper at work, in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.flips: list[int] = []

    def end(self) -> None:
        """Have it put everything back, and tell how often it exchanged what."""
        told, _ = self._process.communicate(timeout=PATIENCE)
        self.flips = json.loads(told)


@contextmanager
def flipping(flips: Sequence[Flip], seed: int) -> Iterator[Flipper]:
    """Have somebody exchange things meanwhile."""
    command = [sys.executable, "-m", "tests.faults.flipper", json.dumps([seed, flips])]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            flipper = Flipper(process)
            yield flipper
            flipper.end()
        finally:
            process.kill()


class _Pair:
    def __init__(self, flip: Flip) -> None:
        self.name, self.other = os.fsencode(flip.name), os.fsencode(Path(flip.other).name)
        self.folders = os.open(flip.folder, _PLACE), os.open(Path(flip.other).parent, _PLACE)
        self.first = _inode(self.name, self.folders[0])
        self.count = 0

    def exchange(self) -> None:
        here, there = self.folders
        # What is not there, for now, cannot be exchanged.
        self.count += _LIBC.renameat2(here, self.name, there, self.other, _EXCHANGE) == 0


def _inode(name: bytes, folder: int) -> int:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_ino
    except OSError:
        return 0


def _work(seed: int, flips: list[Flip]) -> None:
    chance = random.Random(seed)
    pairs = [_Pair(flip) for flip in flips]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not select.select([0], [], [], 0)[0]:
        for _ in range(_MOST):
            chance.choice(pairs).exchange()
            # Without any rest no run gets past its first look; a rest is as long as what a run does between two calls.
            if chance.random() < 0.5:
                end = time.monotonic_ns() + chance.randrange(_LONGEST_REST_NS)
                while time.monotonic_ns() < end:
                    pass
    for pair in pairs:
        # Several may have the same name in turn: what had it first is where one of them put it.
        if pair.first and _inode(pair.other, pair.folders[1]) == pair.first:
            pair.exchange()
    sys.stdout.write(json.dumps([pair.count for pair in pairs]))


if __name__ == "__main__":
    number, wanted = json.loads(sys.argv[1])
    _work(number, [Flip(*each) for each in wanted])
