"""Base classes of events: frozen values with a public name and a log level.

Logs, metrics, progress and status listen to events. Field names carry units. Paths are bytes relative to the root of
the pair; the root itself is empty.

No dataclasses: thirty frozen ones take 10 ms at every start, and pickle slowly; workers send thousands of events.
"""

from collections.abc import Callable
from typing import ClassVar, Never, dataclass_transform


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Event:
    """A fact in the past tense. A subclass declares its fields as a dataclass does; they are passed by keyword.

    `vars` of an event holds every field, in the order they are declared.
    """

    name: ClassVar[str]
    """The public name: that of the class in snake case."""
    level: ClassVar[str | None]
    """Of the log; None for events that are never logged."""
    fields: ClassVar[dict[str, type]] = {}
    """The declared fields and their types, in order."""
    _names: ClassVar[list[str]] = []

    def __init_subclass__(cls, *, level: str | None = "info") -> None:
        """Take the name of a subclass from that of the class, and its fields from the annotations."""
        cls.level = level
        cls.name = "".join(f"_{each.lower()}" if each.isupper() else each for each in cls.__name__)[1:]
        cls.fields = {**cls.fields, **cls.__annotations__}
        cls._names = [*cls.fields]

    def __init__(self, **values: object) -> None:
        """Set all fields. Raises `TypeError` for a field that is missing or unknown."""
        if [*values] != self._names:
            values = self._in_order(values)
        self.__dict__.update(values)

    def _in_order(self, values: dict[str, object]) -> dict[str, object]:
        kind = type(self)
        whole = {name: values[name] if name in values else getattr(kind, name, _MISSING) for name in kind.fields}
        wrong = [*(values.keys() - kind.fields.keys()), *(name for name, value in whole.items() if value is _MISSING)]
        if wrong:
            raise TypeError(f"{kind.__name__}: missing or unknown fields: {', '.join(sorted(wrong))}")
        return whole

    def __setattr__(self, name: str, value: object) -> Never:
        """Refuse: events are immutable."""
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __delattr__(self, name: str) -> Never:
        """Refuse: events are immutable."""
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __eq__(self, other: object) -> bool:
        """Compare by kind and fields."""
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        """Hash by kind and fields, where these can be hashed (a tally cannot)."""
        return hash((type(self), *(getattr(self, name) for name in self.fields)))

    def __repr__(self) -> str:
        """Show every field."""
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.fields)
        return f"{type(self).__name__}({shown})"


_MISSING = object()

Listener = Callable[[Event], None]


class PairEvent(Event):
    """A fact about one pair in one cycle."""

    cycle_id: str
    pair: str


class EntryEvent(PairEvent):
    """A fact about one entry. An output may collect thousands of them until an event of another kind."""

    path: bytes
