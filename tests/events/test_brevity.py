"""Brevity: no line is longer than a page, and what is shortened can still be matched to its file."""

import json
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.core.entry import Kind, base64_of, printable
from job.core.outcome import Failure
from job.events.base import Event
from job.events.pair import FileCopied, FileFailed, PairStarted
from job.events.service import CycleCrashed
from job.events.text import LONGEST_LINE, LONGEST_VALUE, printable_path, shorten, shorten_list
from job.outputs.log import json_line, text_line
from tests.events.facts import VALUES, is_a_word
from tests.repo.catalogue import every_event

NOW = "2026-11-29T20:00:00.000Z"
HUGE = {
    str: st.sampled_from(["x", "\x01", "\u00e9", "\U0001f600", "\\", '"', "\ud800"]).map(lambda c: c * 20_000),
    bytes: st.sampled_from([b"x/", b"\x01", b"\xff", "\u00e9".encode(), "\U0001f600".encode(), b'"']).map(
        lambda c: c * 20_000
    ),
    tuple[str, ...]: st.sampled_from(["x", "\x01", "\U0001f600"]).map(lambda c: (c * 3_000,) * 40),
}


def huge(kind: type[Event]) -> st.SearchStrategy[Event]:
    values = VALUES | HUGE
    fields = {
        name: st.sampled_from(type_) if is_a_word(type_) else values[type_] for name, type_ in kind.fields.items()
    }
    return st.builds(kind, **fields)


any_event = given(st.sampled_from([kind for kind in every_event() if kind.level is not None]).flatmap(huge))


@any_event
@settings(deadline=None, max_examples=50)
def test_a_line_is_never_longer_than_a_page_and_json_stays_valid(event: Event) -> None:
    is_brief(event)


@pytest.mark.slow
@any_event
@settings(deadline=None, max_examples=1500)
def test_no_line_of_many_is_longer_than_a_page(event: Event) -> None:
    is_brief(event)


def is_brief(event: Event) -> None:
    line, text = json_line(event, NOW), text_line(event, NOW)

    assert (len(line) <= LONGEST_LINE, len(text.encode()) <= LONGEST_LINE) == (True, True)
    assert json.loads(line)["event"] == event.name
    assert line.endswith("}\n")
    assert text[:-1].isprintable()


def failed(path: bytes, error: str = "no") -> FileFailed:
    return FileFailed(cycle_id="c", pair="p", path=path, kind=Kind.FILE, reason=Failure.OTHER, error=error)


@pytest.mark.parametrize("name", [b"d", b"\x01", b"\xff", "\u00e9".encode()])
def test_a_long_path_is_matched_to_its_file_by_the_sum_of_its_bytes(name: bytes) -> None:
    path = b"begin/" + b"/".join([name * 200] * 70) + b"/end"

    line = json.loads(json_line(failed(path), NOW))

    mark = f"[{len(path)} bytes, sha256 {sha256(path).hexdigest()[:16]}]"
    shown = [line["path"], *([line["path_base64"]] if name != b"d" and name != "\u00e9".encode() else [])]
    assert [mark in each for each in (*shown, line["message"])] == [True] * (len(shown) + 1)
    assert (line["path"][:6], line["path"][-4:]) == ("begin/", "/end")
    assert ("path_base64" in line) == (len(shown) == 2)


@given(st.binary(max_size=LONGEST_VALUE))
def test_a_path_that_is_not_long_is_shown_as_ever(path: bytes) -> None:
    assert printable_path(path, LONGEST_VALUE) == (printable(path), base64_of(path))


@given(st.text(st.characters(), min_size=300, max_size=900), st.integers(16, 256))
@settings(deadline=None)
def test_a_path_is_not_cut_in_a_character(text: str, longest: int) -> None:
    path = text.encode("utf-8", "surrogateescape" if "\udc80" <= max(text) <= "\udcff" else "replace")
    plain = base64_of(path) is None

    shown, encoded = printable_path(path, longest)

    assert shown.isprintable()
    if plain and len(path) > longest:
        assert encoded is None
        assert "\\x" not in shown.replace(text, "") or "\\x" in text


def test_a_copy_with_a_long_path_has_its_whole_checksum() -> None:
    event = FileCopied(
        cycle_id="c", pair="p", path=b"d/" * 5000 + b"f", kind=Kind.FILE, bytes=3, checksum="sha256:" + "ab" * 32,
        permissions="644", reason="new", duration_seconds=0.1,
    )  # fmt: skip

    assert json.loads(json_line(event, NOW))["checksum"] == "sha256:" + "ab" * 32


def test_the_first_and_the_last_of_many_texts_stay() -> None:
    lines = tuple(f"line {number} " + "x" * 90 for number in range(200))

    told = json.loads(json_line(CycleCrashed(error="a bug", traceback=lines), NOW))["traceback"]

    assert (told[0], told[-1]) == (lines[0], lines[-1])
    assert "more ..." in told[len(told) // 2]
    assert shorten_list(("a", "b"), 16) == ["a", "b"]


def test_two_long_paths_of_a_configuration_fit_in_one_line() -> None:
    event = PairStarted(cycle_id="c", pair="p", source="/s" * 2000, mirror="/m" * 2000, audit=False)

    assert len(json_line(event, NOW)) <= LONGEST_LINE


def test_a_text_is_shortened_in_its_middle() -> None:
    assert shorten("short", 16) == "short"
    assert shorten("a" * 50 + "b" * 50, 16).startswith("a" * 8 + "...[100 characters, sha256 ")
