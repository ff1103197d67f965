"""The line of an event is what the standard library would write, however it is put together."""

import json

from hypothesis import given

from job.core.events import Event
from job.core.log_line import line_of
from job.core.wording import fields_of, sentence
from tests.core.facts import logged_events


@given(logged_events)
def test_a_line_is_the_json_of_its_head_and_fields(event: Event) -> None:
    fields = fields_of(event)
    head = {"timestamp": "T", "level": event.level, "event": event.name, "message": sentence(event, fields)}

    line = line_of(event, "T")

    assert line == json.dumps(head | fields, allow_nan=False) + "\n"
    assert line.isascii()
    assert line.count("\n") == 1
