"""SIGTERM at random moments of a run: it ends stopped or done, whole either way, and the next run makes it equal."""

import random
import signal
import time
from datetime import datetime

import pytest

from tests.faults.generations import Generations, Readers, contents
from tests.faults.rig import Rig

FILES, SIZE = 60, 250_000
pytestmark = pytest.mark.timeout(600)


def grow(generations: Generations) -> Readers:
    """Go to the next generation, which has enough to do for a stop to come in the middle of it."""
    readers = generations.grow_and_watch()
    for number in range(FILES):
        folder = generations.rig.source / f"many {number % 10}"
        folder.mkdir(exist_ok=True)
        (folder / f"file {number}").write_text(f"generation {generations.number} " * (SIZE // 14))
    return generations.watched(readers)


def begun(rig: Rig, workers: int) -> tuple[Generations, float]:
    """Give a rig that has a first generation, and the seconds that a run works on the next one."""
    rig.finely = workers > 1
    rig.configure(workers=workers, workers_from=0)
    generations = Generations(rig)
    grow(generations)
    assert rig.once().code == 0
    grow(generations)
    done = rig.once()
    assert done.code == 0
    began, ended = (datetime.fromisoformat(done.the(name)["timestamp"]) for name in ("pair_started", "cycle_finished"))
    return generations, (ended - began).total_seconds()


def stopped_after(generations: Generations, seconds: float, *, begun: bool) -> None:
    """Stop a run on the next generation after a while of work, or since its start, and hold all it promises against it.

    When it comes is a matter of luck; what must hold does not depend on it.
    """
    rig = generations.rig
    old = contents(rig.mirrored)
    readers = grow(generations)
    new = contents(rig.wanted)
    with rig.started("run", "--once") as running:
        if begun:
            running.wait_for("pair_started")
        time.sleep(seconds)
        code, _ = running.end(signal.SIGTERM)
        results = [line["result"] for line in running.lines if line["event"] == "cycle_finished"]

    # Before it hears signals, and when it hears none any more, it dies of one: with nothing begun, or all done.
    died = -signal.SIGTERM
    allowed = [(143, ["stopped"]), (0, ["success"]), (143, []), (died, []), (died, ["success"])]
    assert (code, results) in allowed, running.errors
    assert "Traceback" not in running.errors
    assert not rig.temps
    for path, content in contents(rig.mirrored).items():
        assert content in {old.get(path), new.get(path)}, path
    assert not readers.exposed()
    if results == ["success"]:
        assert rig.mirrored == rig.wanted
    again = rig.once()
    assert again.code == 0, again
    assert not again.of("index_rebuilt")
    assert rig.mirrored == rig.wanted


@pytest.mark.one_process  # says itself how many
@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_at_a_random_moment_leaves_everything_whole(rig: Rig, workers: int) -> None:
    generations, seconds = begun(rig, workers)
    chance = random.Random(workers)

    for number in range(3):
        stopped_after(generations, seconds * chance.random(), begun=number > 0)


@pytest.mark.slow
@pytest.mark.one_process
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_stop_at_each_of_fifty_random_moments_leaves_everything_whole(rig: Rig, workers: int) -> None:
    generations, seconds = begun(rig, workers)
    chance = random.Random(100 + workers)

    for number in range(50):
        stopped_after(generations, seconds * chance.random(), begun=number % 5 > 0)
