"""The line of an event: JSON in ASCII, one line whatever the event holds. Pure.

It is what the standard library makes of `fields_of(event)` with a head before it. A mass copy waits for its lines, so
a line of the usual shape is put together from a form made once for each kind, in half the time.
"""

from collections.abc import Callable
from enum import EnumType
from json import JSONEncoder
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, NamedTuple

from job.core.events import Event
from job.core.wording import fields_of, sentence

_encode = JSONEncoder(ensure_ascii=True, allow_nan=False).encode


class _Form(NamedTuple):
    """What is the same in every line of a kind, with gaps; and how each field is written into its gap."""

    text: str
    writers: list[Callable[[Any], str]]


_FORMS: dict[type[Event], _Form] = {}


def line_of(event: Event, timestamp: str) -> str:
    """Write an event as a line, with its line end. `timestamp` is ASCII without quotes."""
    kind = type(event)
    fields = fields_of(event)
    message = sentence(event, fields)
    text, writers = _FORMS.get(kind) or _form(kind)
    if len(fields) != len(writers):  # a tally, or a path that is not shown as it is, stands for more than one field
        head = {"timestamp": timestamp, "level": event.level, "event": event.name, "message": message}
        return _encode(head | fields) + "\n"
    return text % (
        timestamp,
        quoted(message),
        *[write(value) for write, value in zip(writers, fields.values(), strict=True)],
    )


def _form(kind: type[Event]) -> _Form:
    head = f'{{"timestamp": "%s", "level": "{kind.level}", "event": "{kind.name}", "message": %s'
    text = head + "".join(f', "{name}": %s' for name in kind.fields) + "}\n"
    form = _FORMS[kind] = _Form(text, [_writer(type_) for type_ in kind.fields.values()])
    return form


def _writer(type_: type) -> Callable[[Any], str]:
    return quoted if isinstance(type_, EnumType) else _WRITERS.get(type_, _encode)


def _number(number: float | None) -> str:
    return "null" if number is None else repr(number)


_WRITERS: dict[type, Callable[[Any], str]] = {str: quoted, bytes: quoted, int: int.__repr__, float: _number}
