"""Run a cycle and hold its mirror against its source."""

from tests.faults.rig import Done, Rig
from tests.fidelity.oracle import below, differences, facts_of, is_no_folder, left_to_do

Counts = tuple[int, int, int, int]


def cycle(rig: Rig, story: list[str]) -> Done:
    """Run a cycle that has no reason to fail at anything, nor to suspect anybody of having changed the mirror."""
    done = rig.once()
    assert (done.code, done.failed, done.drift, done.of("metadata_not_kept")) == (0, {}, {}, []), end_of(story)
    assert sum(done.counts) == entries(rig), end_of(story)
    return done


def equal(rig: Rig, story: list[str], *, delete: bool) -> None:
    """Insist that both judges find nothing."""
    assert left_to_do(rig.source, rig.mirror, delete=delete) == [], end_of(story)
    assert differences(rig.source, rig.mirror) == [], end_of(story)


def entries(rig: Rig) -> int:
    """Count what a summary counts: everything but folders."""
    return sum(is_no_folder(rig.source, name) for name in below(rig.source))


def state_of(rig: Rig) -> dict[bytes, object]:
    """Give what is to be seen of a source, so that nobody changes it unseen."""
    return {name: facts_of(rig.source, name) for name in below(rig.source)}


def end_of(story: list[str]) -> str:
    """Tell what happened last, and how all of it can be had again."""
    return "\n".join([story[0], "...", *(each[:200] for each in story[-12:])])
