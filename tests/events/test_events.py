"""The catalogue of events: public names, one each, every one explained."""

import copy
import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.core.outcome import Skip
from job.events.base import EntryEvent, Event, PairEvent
from job.events.pair import FileSkipped, Progressed
from job.events.service import ServiceStopped
from tests.events.facts import values_of
from tests.repo.catalogue import every_event

LEVELS = {None, "debug", "info", "warning", "error"}


def test_every_event_has_a_name_of_its_own() -> None:
    names = [event.name for event in every_event()]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("event", every_event(), ids=lambda event: str(event.name))
class TestEveryEvent:
    """What holds for each of them."""

    def test_is_named_after_its_class(self, event: type[Event]) -> None:
        assert event.name == re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).lower()

    def test_says_what_happened(self, event: type[Event]) -> None:
        assert event.__doc__
        assert not event.__doc__.startswith(event.__name__ + "(")
        assert event.__doc__ != Event.__doc__

    def test_has_a_level_of_its_own_or_is_never_logged(self, event: type[Event]) -> None:
        assert event.level in LEVELS

    @given(data=st.data())
    @settings(max_examples=25)
    def test_comes_back_equal_from_a_worker(self, event: type[Event], data: st.DataObject) -> None:
        comes_back_equal(data.draw(st.lists(values_of(event), max_size=3)))

    @pytest.mark.slow
    @given(data=st.data())
    @settings(max_examples=1000)
    def test_comes_back_equal_many_times(self, event: type[Event], data: st.DataObject) -> None:
        comes_back_equal(data.draw(st.lists(values_of(event), max_size=3)))

    def test_tells_its_unit_in_the_name_of_every_time_and_duration(self, event: type[Event]) -> None:
        assert all(name.endswith("_seconds") for name, kind in event.fields.items() if kind is float)


def comes_back_equal(told: list[Event]) -> None:
    heard = pickle.loads(pickle.dumps(told, 5))

    assert heard == told or "nan" in repr(told)  # which does not even equal itself
    assert [list(vars(each)) for each in heard] == [list(each.fields) for each in told]


def test_the_list_holds_every_class_of_events() -> None:
    known: set[type[Event]] = set()
    waiting: list[type[Event]] = [Event]
    while waiting:
        below = waiting.pop().__subclasses__()
        known |= set(below)
        waiting += below

    ours = {kind for kind in known if kind.__module__.startswith("job.")} - {PairEvent, EntryEvent}
    assert ours == set(every_event())


def skipped(path: bytes = b"a") -> FileSkipped:
    return FileSkipped(cycle_id="c1", pair="music", path=path, reason=Skip.VANISHED)


def test_nobody_can_change_what_was_told() -> None:
    told = ServiceStopped(reason="SIGTERM")

    with pytest.raises(AttributeError, match=r"ServiceStopped\.reason cannot be changed"):
        told.reason = "another"  # type: ignore[misc]
    with pytest.raises(AttributeError, match=r"ServiceStopped\.reason cannot be changed"):
        del told.reason
    assert told.reason == "SIGTERM"


def test_events_of_one_kind_with_the_same_fields_are_equal() -> None:
    assert skipped() == skipped()
    assert hash(skipped()) == hash(skipped())
    assert skipped() != skipped(b"b")
    assert ServiceStopped(reason="a") != OneMore(reason="a")
    assert copy.deepcopy(skipped()) == skipped()


class OneMore(ServiceStopped):
    """The same fields, but another fact."""


def test_an_event_shows_its_fields() -> None:
    assert repr(ServiceStopped(reason="SIGTERM")) == "ServiceStopped(reason='SIGTERM')"


def test_a_field_that_is_missing_or_unknown_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="ServiceStopped: missing or unknown fields: reason"):
        ServiceStopped()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="ServiceStopped: missing or unknown fields: cause"):
        ServiceStopped(reason="a", cause="b")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        ServiceStopped("a")  # type: ignore[call-arg]


def test_a_field_with_a_default_may_be_left_out() -> None:
    told = Progressed(cycle_id="c1", pair="music", phase="scan", entries=3)

    assert told.bytes_total == 0
    assert told == Progressed(
        cycle_id="c1", pair="music", phase="scan", entries=3, entries_total=0, bytes=0, bytes_total=0
    )
