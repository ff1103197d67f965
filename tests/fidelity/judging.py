"""Run a cycle and hold its mirror against its source."""

from tests.faults.rig import Done, Rig
from tests.fidelity.oracle import below, differences, facts_of, is_no_folder, left_to_do

Counts = tuple[int, int, int, int]


def cycle(rig: Rig, story: list[str]) -> Done:
    """Run a cycle that has no reason to fail at anything, nor to suspect anybody of having changed the mirror."""
    done = rig.once()
    assert (done.code, done.failed, done.drift, done.of("metadata_not_kept")) == (0, {}, {}, []), story
    assert sum(done.counts) == entries(rig), story
    return done


def equal(rig: Rig, story: list[str], *, delete: bool) -> None:
    """Insist that both judges find nothing."""
    assert left_to_do(rig.source, rig.mirror, delete=delete) == [], story
    assert differences(rig.source, rig.mirror) == [], story


def entries(rig: Rig) -> int:
    """Count what a summary counts: everything but folders."""
    return sum(is_no_folder(rig.source, name) for name in below(rig.source))


def state_of(rig: Rig) -> dict[bytes, object]:
    """Give what is to be seen of a source, so that nobody changes it unseen."""
    return {name: facts_of(rig.source, name) for name in below(rig.source)}
