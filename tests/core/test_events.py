"""The catalogue of events: public names, one each, every one explained."""

import dataclasses
import re

import pytest

from job.core.events import Event, PairEvent, ServiceStopped, every_event

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

    def test_is_a_frozen_value(self, event: type[Event]) -> None:
        assert dataclasses.is_dataclass(event)
        assert event.__dataclass_params__.frozen  # type: ignore[attr-defined]  # what dataclass() was called with

    def test_tells_its_unit_in_the_name_of_every_time_and_duration(self, event: type[Event]) -> None:
        fields = {each.name for each in dataclasses.fields(event) if each.type in (float, "float")}

        assert all(name.endswith("_seconds") for name in fields)


def test_the_list_holds_every_class_of_events() -> None:
    known: set[type[Event]] = set()
    waiting: list[type[Event]] = [Event]
    while waiting:
        below = waiting.pop().__subclasses__()
        known |= set(below)
        waiting += below

    ours = {kind for kind in known if kind.__module__ == Event.__module__} - {PairEvent}
    # `slots=True` makes every class twice; the first one is never given out.
    assert {kind.__name__ for kind in ours} - {"PairEvent"} == {kind.__name__ for kind in every_event()}


def test_nobody_can_change_what_was_told() -> None:
    told = ServiceStopped(reason="SIGTERM")

    with pytest.raises(dataclasses.FrozenInstanceError):
        told.reason = "another"  # type: ignore[misc]
