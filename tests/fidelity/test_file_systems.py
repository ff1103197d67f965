"""Every kind of entry on every file system, through a history of changes: rsync as root finds nothing left to do."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.fidelity.changes import CHANGES
from tests.fidelity.history import History
from tests.fidelity.judging import compared, cycle, entries, equal, nothing, state_of
from tests.fidelity.scope import Scope
from tests.fidelity.systems import SYSTEMS, System

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_tool("rsync"), pytest.mark.needs_tool("mount")]

CHANGES_IN_ALL = 100


def worlds(*left_out: str) -> Iterator[object]:
    """Give each file system with several workers and with one; these are slow, and so is one worker but on two of them.

    One process works alike on all file systems; an overlay gives its files other inodes meanwhile.
    """
    for name, system in SYSTEMS.items():
        for workers in (1, 4) if not system.options else (4,):
            world = f"{name}, {workers}"
            slow = world in left_out or (workers == 1 and name not in {"ext4", "overlay"})
            marks = [pytest.mark.needs_tool(system.tool), *([pytest.mark.slow] if slow else [])]
            yield pytest.param((name, workers), id=world, marks=marks)


@pytest.fixture(params=[*worlds()])
def world(request: pytest.FixtureRequest) -> tuple[str, int]:
    """A file system, and a number of workers."""
    name, workers = request.param
    return name, workers


@pytest.fixture
def system(world: tuple[str, int]) -> System:
    return SYSTEMS[world[0]]


@pytest.fixture
def pair(world: tuple[str, int], system: System, tmp_path: Path) -> Iterator[Rig]:
    with system.pair(tmp_path, world[1]) as rig:
        yield rig


def test_every_kind_of_entry_is_mirrored_once_and_left_alone_after_that(pair: Rig) -> None:
    before = state_of(pair)

    first = cycle(pair, ["first"])
    equal(pair, ["first"], delete=True)
    second = cycle(pair, ["second"])
    equal(pair, ["second"], delete=True)
    pair.configure(**pair.options, audit_interval=0)
    third = cycle(pair, ["audit"])

    assert first.counts == (entries(pair), 0, 0, 0)
    assert second.counts == third.counts == (0, 0, entries(pair), 0)
    equal(pair, ["audit"], delete=True)
    assert state_of(pair) == before


def test_without_its_index_the_job_finds_that_all_of_it_is_right(tmp_path: Path) -> None:
    with SYSTEMS["tmpfs"].pair(tmp_path, 4) as pair:
        cycle(pair, ["first"])
        (pair.state / "index.sqlite3").unlink()

        told = pair.once()

        assert told.counts == (0, 0, entries(pair), 0)
        equal(pair, ["index lost"], delete=True)


def test_a_name_that_an_overlay_gave_a_file_of_its_own_has_one_in_the_mirror(tmp_path: Path) -> None:
    """Nothing tells of the other names, which stay in the lower layer: neither their times nor their count move."""
    with SYSTEMS["overlay"].pair(tmp_path, 1) as pair:
        cycle(pair, ["first"])
        part(pair.source / "hard_links/file 3")
        cycle(pair, ["one parted"])
        let_it_age()
        cycle(pair, ["believed"])
        os.link(pair.source / "hard_links/another 3", pair.source / "names/copied up")

        cycle(pair, ["copied up"])

        equal(pair, ["copied up"], delete=True)
        pair.configure(**pair.options, audit_interval=0)
        assert cycle(pair, ["audit"]).counts == (0, 0, entries(pair), 0)


@pytest.mark.needs_tool("mkfs.btrfs")
@pytest.mark.parametrize("name", ["file", "folder/file"])
def test_a_new_name_is_there_on_btrfs_for_who_had_the_folder_open_before(tmp_path: Path, name: str) -> None:
    """Btrfs lists what a folder held when it was opened, or last rewound."""
    with SYSTEMS["btrfs"].at(tmp_path, Scope()) as folder:
        rig = Rig(folder / "small")
        (rig.source / "folder").mkdir()
        (rig.source / name).write_text("new")

        cycle(rig, ["one new name"])

        assert (rig.mirror / name).read_text() == "new"


def part(path: Path) -> None:
    subprocess.run(["cp", "--archive", path, path.with_name("fresh")], check=True)
    path.with_name("fresh").rename(path)


def let_it_age() -> None:
    """Wait until what was written last is old enough to be believed."""
    deadline = time.monotonic() + 2.1
    while time.monotonic() < deadline:
        time.sleep(0.1)


def live(pair: Rig, system: System, seed: int, changes: int) -> None:
    """Let a random history happen, with a cycle every now and then, every other one of them an audit."""
    cycle(pair, ["first"])
    history = History(pair.source, seed, system.scope)
    for number in range(CHANGES_IN_ALL // changes):
        story = history.go_on(CHANGES, changes)
        pair.configure(**pair.options, audit_interval=number % 2 * 3600)
        cycle(pair, story)
        equal(pair, story, delete=False)
    assert cycle(pair, history.told).counts == (0, 0, entries(pair), 0)
    equal(pair, history.told, delete=False)
    nothing([line for line in compared(pair) if not line.startswith("extra ")], history.told)


# Each kind of disk once: XFS with clones, btrfs with copies.
@pytest.mark.parametrize("world", [*worlds("overlay, 1", "XFS, 4", "btrfs with clones, 4")], indirect=True)
@pytest.mark.parametrize("seed", [1])
def test_a_random_history_is_followed(pair: Rig, system: System, seed: int) -> None:
    live(pair, system, seed, 20)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(100, 120))
def test_more_random_histories_are_followed(pair: Rig, system: System, seed: int) -> None:
    live(pair, system, seed, 10)
