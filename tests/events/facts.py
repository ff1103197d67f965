"""Events of any kind, with whatever values their fields may have, by Hypothesis."""

from enum import StrEnum
from operator import attrgetter
from typing import Any

from hypothesis import strategies as st

from job.core.counts import Tally
from job.core.outcome import Drift, Failure, Skip
from job.events.base import Event
from job.events.pair import CopyFacts, FileCopied
from tests.repo.catalogue import every_event

COUNTS = st.integers(0, 2**63)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    bytes: st.binary(max_size=50),
    float: st.floats(),
    int: COUNTS,
    str: st.text(st.characters(), max_size=20),
    dict[str, int]: st.dictionaries(st.text(max_size=5), COUNTS, max_size=3),
    tuple[str, ...]: st.lists(st.text(max_size=5), max_size=3).map(tuple),
    Tally: st.builds(
        Tally,
        copied=COUNTS,
        bytes_copied=COUNTS,
        skipped_by=st.dictionaries(st.sampled_from(Skip), COUNTS),
        failed_by=st.dictionaries(st.sampled_from(Failure), COUNTS),
        drift_by=st.dictionaries(st.sampled_from(Drift), COUNTS),
    ),
}


def values_of(event: type[Event]) -> st.SearchStrategy[Event]:
    """Make events of one kind, with any values its fields may have."""
    fields = {name: st.sampled_from(kind) if is_a_word(kind) else VALUES[kind] for name, kind in event.fields.items()}
    return st.builds(event, **fields)


def is_a_word(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


logged_events = st.sampled_from([kind for kind in every_event() if kind.level is not None]).flatmap(values_of)


VALUES[list[CopyFacts]] = st.lists(values_of(FileCopied).map(attrgetter("facts")), min_size=1, max_size=3)
