"""A line of the log is what python-json-logger makes of an event, however it is put together."""

import json
from logging import LogRecord

from hypothesis import example, given
from hypothesis import strategies as st
from pythonjsonlogger.json import JsonFormatter

from job.events.base import Event
from job.events.pair import CycleStalled, FileCopied, FilesCopied
from job.events.text import fields_of, sentence
from job.outputs.log import json_line, json_lines, text_line, text_lines
from tests.events.facts import logged_events, values_of
from tests.outputs.logbook import copied
from tests.outputs.representative import events

TIMES = "2026-09-21T14:13:20.125Z"


def by_the_library(event: Event) -> str:
    """Make the line with nothing but the library's defaults."""
    fields = fields_of(event)
    head = {"timestamp": TIMES, "level": event.level, "event": event.name, "message": sentence(event, fields)}
    return JsonFormatter(()).format(LogRecord("any", 20, "", 0, head | fields, None, None))


@given(logged_events)
@example(CycleStalled(cycle_id="c", pair="p", process="main", stalled_seconds=1.0, where="", doing=""))
def test_a_line_is_what_the_library_makes_of_the_head_and_the_fields(event: Event) -> None:
    line = json_line(event, TIMES)

    assert line == by_the_library(event) + "\n"
    assert line.isascii()
    assert line.count("\n") == 1


@given(st.lists(values_of(FileCopied), min_size=1, max_size=3))
@example([copied(b""), copied("Größe \N{OK HAND SIGN}".encode()), copied(b"\xef\xbf\xbd"), copied("ü".encode() * 500)])
def test_the_prepared_lines_of_copied_files_are_byte_for_byte_those_of_each(copies: list[FileCopied]) -> None:
    about = {"cycle_id": copies[0].cycle_id, "pair": copies[0].pair}
    together = FilesCopied(**about, copies=[each.facts for each in copies])

    lines = json_lines(together, TIMES)

    assert lines == [json_line(together.event_of(each.facts), TIMES) for each in copies]
    assert [len(line.splitlines()) for line in text_lines(together, TIMES)] == [1] * len(copies)


@given(st.lists(st.floats(0, 2e6) | st.integers(0, 10**12).map(lambda ns: ns / 1e9), min_size=1))
@example([0.0, 1e-9, 4.5e-6, 9.95e-5, 9.949999e-5, 1e-4, 0.1234565, 0.5, 1.0, 1e6, 1e6 + 0.1])
def test_prepared_lines_show_durations_as_json_does(durations: list[float]) -> None:
    facts = [(*copied(b"plain").facts[:-1], seconds) for seconds in durations]
    together = FilesCopied(cycle_id="c1", pair="music", copies=facts)

    assert json_lines(together, TIMES) == [json_line(together.event_of(each), TIMES) for each in facts]


def test_names_that_other_formatters_lose_are_in_the_log() -> None:
    for event in events():
        if event.level is not None:
            assert json_line(event, TIMES) == by_the_library(event) + "\n"
    line = json_line(copied(b"latin-\xe9 \xf0\x9f\x98\x80"), TIMES)
    assert json.loads(line)["path_base64"]


@given(logged_events)
def test_a_line_of_text_is_one_printable_line_with_time_and_level(event: Event) -> None:
    line = text_line(event, TIMES)

    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert line.startswith("2026-09-21T14:13:20Z " + (event.level or "").upper())
