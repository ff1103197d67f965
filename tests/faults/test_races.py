"""Somebody with every right exchanges names in source, mirror and state folder while one run follows on the other.

Nothing outside is read, changed or named, nothing is waited for, and when they are done, so is the mirror.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.flipper import Flip, flipping
from tests.faults.moving import Moving, file_flips, folder_flips, lures, make_work
from tests.faults.outside import Outside
from tests.faults.rig import Done, Rig

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.one_process,  # how many workers there are is said here
    pytest.mark.timeout(600),
]

ROUNDS, MANY_ROUNDS = 3, 40
LEAST_FLIPS = 10
"""Of each name, on average, while one round lasts."""
OPTIONS: list[dict[str, Any]] = [
    {},
    {"audit_interval": 0, "verify_copies": "readback"},
    {"compare": "checksum", "specials": "recreate"},
    {"mirror_check": "awake", "checksum": "md5", "keep_security": True},
]
"""In turn, for one round each."""

crews = pytest.mark.parametrize("workers", [1, 4])
length = pytest.mark.parametrize("rounds", [ROUNDS, pytest.param(MANY_ROUNDS, marks=pytest.mark.slow)])


class Race:
    """A rig whose names somebody exchanges."""

    def __init__(self, base: Path, workers: int) -> None:
        self.rig = Rig(base, {"workers": workers, "workers_from": 0}, program="tests.faults.crowded")
        self.workers = workers
        self.outside = Outside(base)
        self.source = Moving(self.rig.source)
        self.aside = base / "aside"

    def configure(self, number: int = 0, **options: Any) -> None:
        """Put the options of a round in force."""
        self.rig.configure(workers=self.workers, workers_from=0, **OPTIONS[number % len(OPTIONS)] | options)

    def go(self, flips: list[list[Flip]], rounds: int, codes: set[int]) -> None:
        """Run again and again while somebody exchanges names, and see to it that nothing outside is met.

        Of several lists of names each has its turn: where folders come and go, little below them is reached.
        """
        for number in range(rounds):
            chosen = flips[(number + self.workers) % len(flips)]
            if not all(is_folder(each.folder) for each in chosen):
                self.rig.once()  # what the last round left of the mirror's folders is mended
            make_work(self.rig.mirror)
            self.configure(number)
            with self.source.held(), flipping(chosen, seed=number) as flipper:
                self.source.go_on()
                self.run(number, codes)
            assert sum(flipper.flips) >= LEAST_FLIPS * len(chosen), flipper.flips
            self.outside.is_untouched()
            self.outside.is_told_nowhere(self.rig, places=[self.aside])

    def run(self, number: int, codes: set[int]) -> None:
        """Run a cycle, and then a plan or a comparison; none may wait for anything."""
        done = self.rig.once()
        assert not done.of("cycle_crashed"), done.stdout
        for each in (done, self.rig.run(("plan", "compare")[number % 2], "--json")):
            assert each.code in codes, each
            assert "Traceback" not in each.stderr, each.stderr
            assert not self.secrets(each)

    def secrets(self, done: Done) -> list[str]:
        return [each for each in (self.outside.secret, self.outside.inner) if each in done.stdout + done.stderr]

    def is_whole_in_the_end(self) -> None:
        """Insist that one more run, which nobody meddles with, leaves an equal tree; it looks at everything."""
        self.configure(audit_interval=0)
        done, again = self.rig.once(), self.rig.once()
        assert (done.code, again.code) == (0, 0), done
        assert again.counts[0] == 0
        wanted = self.rig.wanted
        assert {path: thing for path, thing in self.rig.mirrored.items() if path in wanted} == wanted
        assert self.rig.run("compare").code == 0
        self.outside.is_untouched()
        self.outside.is_told_nowhere(self.rig, done.stdout, places=[self.aside])


@pytest.fixture
def race(tmp_path: Path, workers: int) -> Iterator[Race]:
    race = Race(tmp_path, workers)
    yield race
    race.outside.is_untouched()


def is_folder(path: str) -> bool:
    """Tell whether a path leads to a folder, and by no link."""
    return os.path.isdir(path) and os.path.realpath(path) == path


def both(root: Path, outside: Outside, aside: Path) -> list[list[Flip]]:
    """Exchange files in the one round, and folders, too, in the next."""
    files = file_flips(root, outside, aside)
    return [files, files + folder_flips(root, outside, aside)]


@crews
@length
def test_names_that_are_exchanged_in_the_source_lead_nowhere(race: Race, rounds: int) -> None:
    root, outside, aside = race.rig.source, race.outside, race.aside

    race.go(both(root, outside, aside), rounds, {0, 3})

    race.is_whole_in_the_end()


@crews
@length
def test_names_that_are_exchanged_in_the_mirror_lead_nowhere(race: Race, rounds: int) -> None:
    root, outside, aside = race.rig.mirror, race.outside, race.aside
    race.rig.once()

    race.go(both(root, outside, aside), rounds, {0, 3})

    race.is_whole_in_the_end()


@crews
@length
def test_a_state_folder_that_is_exchanged_leads_nowhere(race: Race, rounds: int) -> None:
    """It lies in the mirror's root, which may belong to somebody else."""
    mirror, outside, aside = race.rig.mirror, race.outside, race.aside
    race.rig.once()
    flips = [
        Flip(str(mirror), ".truecopy", str(lures(outside, aside, name=kind)))
        for kind in ("link to a folder", "fifo", "folder")
    ]
    os.chown(flips[-1].other, 4711, 4711)

    race.go([flips], rounds, {0, 1, 3, 4})  # 1: the lock is in there, and who lost it gives the pair up

    race.is_whole_in_the_end()
