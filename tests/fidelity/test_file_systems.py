"""Every kind of entry on every file system, through a history of changes: rsync as root finds nothing left to do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.fidelity.changes import CHANGES
from tests.fidelity.history import History
from tests.fidelity.judging import cycle, entries, equal, state_of
from tests.fidelity.systems import SYSTEMS, System

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_tool("rsync"), pytest.mark.needs_tool("mount")]

CHANGES_IN_ALL, CHANGES_A_CYCLE = 100, 10


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.needs_tool(each.tool)) for name, each in SYSTEMS.items()])
def system(request: pytest.FixtureRequest) -> System:
    return SYSTEMS[request.param]


@pytest.fixture(params=[1, 4], ids=["alone", "4 workers"])
def pair(request: pytest.FixtureRequest, system: System, tmp_path: Path) -> Iterator[Rig]:
    with system.pair(tmp_path, request.param) as rig:
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


def test_without_its_index_the_job_finds_that_all_of_it_is_right(pair: Rig) -> None:
    cycle(pair, ["first"])
    (pair.state / "index.sqlite3").unlink()

    told = cycle(pair, ["index lost"])

    assert told.counts == (0, 0, entries(pair), 0)
    equal(pair, ["index lost"], delete=True)


def live(pair: Rig, system: System, seed: int) -> None:
    """Let a random history happen, with a cycle every now and then, every other one of them an audit."""
    cycle(pair, ["first"])
    history = History(pair.source, seed, system.scope)
    for number in range(CHANGES_IN_ALL // CHANGES_A_CYCLE):
        story = history.go_on(CHANGES, CHANGES_A_CYCLE)
        pair.configure(**pair.options, audit_interval=number % 2 * 3600)
        cycle(pair, story)
        equal(pair, story, delete=False)
    story.append("nothing more")
    assert cycle(pair, story).counts == (0, 0, entries(pair), 0)
    equal(pair, story, delete=False)


@pytest.mark.parametrize("seed", [1])
def test_a_random_history_is_followed(pair: Rig, system: System, seed: int) -> None:
    live(pair, system, seed)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(100, 120))
def test_more_random_histories_are_followed(pair: Rig, system: System, seed: int) -> None:
    live(pair, system, seed)
