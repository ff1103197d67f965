"""Run a cycle and hold its mirror against its source."""

from tests.faults.rig import Done, Rig
from tests.fidelity.oracle import below, differences, facts_of, is_no_folder, left_to_do

_EXPECTED = {"replaced_by_folder"}


def cycle(rig: Rig, story: list[str]) -> Done:
    """Run a cycle that has no reason to fail at anything, nor to suspect anybody of having changed the mirror."""
    done = rig.once()
    wrong = [line for line in done.lines if line["level"] in {"warning", "error"}]
    nothing([line["message"] for line in wrong if line["event"] not in _EXPECTED], story)
    assert done.code == 0, done
    assert sum(done.counts) == entries(rig), done.counts
    return done


def equal(rig: Rig, story: list[str], *, delete: bool) -> None:
    """Insist that both judges find nothing, and where a mirror is to be equal in all, that `compare` agrees."""
    nothing(left_to_do(rig.source, rig.mirror, delete=delete), story)
    nothing(differences(rig.source, rig.mirror), story)
    if delete:
        nothing(compared(rig), story)


def compared(rig: Rig) -> list[str]:
    """Give what the job itself says that differs."""
    return [line for line in rig.run("compare").stdout.splitlines() if not line.startswith("#")]


def nothing(found: list[str], story: list[str]) -> None:
    """Insist that nothing is found; otherwise tell what happened last, and how all of it can be had again."""
    if found:
        told = [*found[:20], "", story[0], "...", *(each[:200] for each in story[-12:])]
        raise AssertionError("\n".join(told))


def entries(rig: Rig) -> int:
    """Count what a summary counts: everything but folders."""
    return sum(is_no_folder(rig.source, name) for name in below(rig.source))


def state_of(rig: Rig) -> dict[bytes, object]:
    """Give what is to be seen of a source, so that nobody changes it unseen."""
    return {name: facts_of(rig.source, name) for name in below(rig.source)}
