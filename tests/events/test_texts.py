"""What people read: every sentence holds up with the path of the root and with any count, without Python's forms."""

import errno
import os
from enum import EnumType
from typing import Any

import pytest

from job.core.counts import Tally
from job.core.outcome import reason_text
from job.events.base import Event
from job.events.text import SENTENCES, fields_of, plural, sentence
from tests.repo.catalogue import every_event

UNFIT = (": :", " : ", "Errno", "b'", "1 entries", "1 files", "1 folders", "  ", "None", "{", "()")


def an_event(kind: type[Event], count: int) -> Event:
    refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES), b"name")
    values: dict[object, Any] = {
        str: reason_text(refused),
        bytes: b"",
        int: count,
        bool: bool(count),
        float: float(count),
        dict[str, int]: {"word": count},
        tuple[str, ...]: ("word",) * count,
        Tally: Tally(copied=count, bytes_copied=count, folders=count, failed_by={}, skipped_by={}),
    }
    given = {
        name: next(iter(type_)) if isinstance(type_, EnumType) else values[type_] for name, type_ in kind.fields.items()
    }
    return kind(**given)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("kind", [kind for kind in every_event() if kind.level], ids=lambda kind: kind.name)
def test_every_sentence_is_whole_with_the_roots_path_and_any_count(kind: type[Event], count: int) -> None:
    event = an_event(kind, count)

    said = sentence(event, fields_of(event))

    assert kind.name in SENTENCES
    assert not [unfit for unfit in UNFIT if unfit in said], said
    assert not said.endswith((":", ": ", " "))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), b"x"), "No space left on device"),
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES), b"x", None, b"y"),
            "Permission denied (the user that runs Truecopy lacks the right to it)",
        ),
        (OSError(errno.EIO, "5 bytes were written, but the file has 4"), "5 bytes were written, but the file has 4"),
        (OSError("what a library says"), "what a library says"),
        (ValueError("a value"), "a value"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_reason_is_in_words_without_number_path_or_quotes(error: Exception, said: str) -> None:
    assert reason_text(error) == said


def test_one_thing_is_not_told_as_several() -> None:
    assert [plural(count, "entry", "entries") for count in (0, 1, 2)] == ["0 entries", "1 entry", "2 entries"]
    assert [plural(count, "folder") for count in (0, 1, 2)] == ["0 folders", "1 folder", "2 folders"]
