"""Wording and catalogues: every event has its sentence and its documented fields, every metric its row."""

import json
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.counts import Tally
from job.core.outcome import Failure
from job.events.base import Event
from job.events.pair import MirrorProbed
from job.events.text import (
    SENTENCES,
    approximate_duration,
    clean,
    fields_of,
    format_bytes,
    format_duration,
    format_timestamp,
    sentence,
    time_ago,
)
from tests.repo.catalogue import EVERY_SERIES, catalogue, every_event, field_names, metric_catalogue

SAMPLES: dict[Any, Any] = {
    str: "text",
    int: 12,
    float: 1.5,
    bool: True,
    bytes: b"\xff",
    tuple[str, ...]: ("a", "b"),
    dict[str, int]: {"a": 2},
    Tally: Tally(copied=1, failed_by={Failure.SYNC: 2}),
}


def sample(kind: type[Event]) -> Event:
    values = {}
    declared: Any
    for name, declared in kind.fields.items():
        is_word = isinstance(declared, type) and issubclass(declared, StrEnum)
        values[name] = next(iter(declared)) if is_word else SAMPLES[declared]
    return kind(**values)


LOGGED = [kind for kind in every_event() if kind.level is not None]


@pytest.mark.parametrize("kind", LOGGED, ids=lambda kind: kind.name)
def test_an_event_has_the_fields_its_catalogue_names_and_a_sentence(kind: type[Event]) -> None:
    event = sample(kind)

    fields = fields_of(event)

    assert list(fields) == field_names(kind)
    assert json.loads(json.dumps(fields)) == fields
    assert sentence(event, fields).isprintable()
    assert "{" not in sentence(event, fields)


def test_there_is_a_sentence_for_every_logged_event_and_for_no_other() -> None:
    assert sorted(SENTENCES) == sorted(kind.name for kind in LOGGED)


@pytest.mark.parametrize(("lacks", "told"), [((), "lacks nothing"), (("symlinks", "owners"), "lacks symlinks, owners")])
def test_what_a_mirror_lacks_is_told_in_words(lacks: tuple[str, ...], told: str) -> None:
    event = MirrorProbed(cycle_id="c", pair="p", file_system="exfat", lacks=lacks)

    assert sentence(event, fields_of(event)) == f"The mirror's file system (exfat) {told}"


def test_every_event_is_listed_once() -> None:
    names = [kind.name for kind in every_event()]

    assert len(names) == len(set(names))
    assert "event" not in names


def test_the_event_table_has_a_row_for_each_logged_event() -> None:
    rows = catalogue().splitlines()

    assert rows[0] == "| event | level | fields | meaning |"
    assert len(rows) == 2 + len(LOGGED)
    assert all(len(row.replace("\\|", "").split("|")) == 6 for row in rows)


def test_the_metric_table_has_a_row_for_each_metric() -> None:
    rows = metric_catalogue().splitlines()

    assert [row.split("`")[1] for row in rows[2:]] == [series.full_name for series in EVERY_SERIES]


def test_metric_names_follow_the_conventions() -> None:
    names = [series.full_name for series in EVERY_SERIES]

    assert len(set(names)) == len(names)
    for series in EVERY_SERIES:
        assert series.full_name.startswith("truecopy_")
        assert (series.type == "counter") == series.full_name.endswith("_total")
        assert series.meaning.endswith(".")


@given(st.text(st.characters()))
def test_cleaned_text_is_printable_and_printable_text_stays(text: str) -> None:
    assert clean(text).isprintable()
    if text.isprintable():
        assert clean(text) == text


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (10**19, "10000.0 PB")]
)
def test_sizes_are_written_for_people(count: int, shown: str) -> None:
    assert format_bytes(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (60.0, "1 min 0 s"),
        (3599.0, "59 min 59 s"),
        (7260, "2 h 1 min"),
        (None, "unknown time"),
    ],
)
def test_durations_are_written_for_people(seconds: float | None, shown: str) -> None:
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (59, "59 seconds"),
        (89, "89 seconds"),
        (90, "2 minutes"),
        (180, "3 minutes"),
        (5400, "2 hours"),
        (35 * 3600, "35 hours"),
        (36 * 3600, "2 days"),
        (400 * 86400, "400 days"),
    ],
)
def test_a_length_of_time_is_told_in_one_unit(seconds: float, told: str) -> None:
    assert approximate_duration(seconds) == told


def test_how_long_ago_something_was() -> None:
    assert [time_ago(-5), time_ago(0), time_ago(1.9), time_ago(3), time_ago(180)] == [
        "in the future",
        "just now",
        "just now",
        "3 seconds ago",
        "3 minutes ago",
    ]
    assert [
        time_ago(3, short=True),
        time_ago(180, short=True),
        time_ago(7200, short=True),
        time_ago(9 * 86400, short=True),
    ] == [
        "3 s ago",
        "3 min ago",
        "2 h ago",
        "9 days ago",
    ]


def test_a_moment_is_told_in_utc() -> None:
    assert (format_timestamp(0), format_timestamp(None), format_timestamp(1_000_000_000.9)) == (
        None,
        None,
        "2001-09-09T01:46:40Z",
    )
