"""The event bus: every listener gets every event, and a failing one affects neither the others nor the cycle."""

from collections.abc import Iterable

from job.core.outcome import reason_text
from job.core.redaction import redacted
from job.events.base import EntryEvent, Event, Listener
from job.events.service import OutputFailed

_MAY_QUOTE = frozenset({"error", "hint", "faults", "reason", "traceback", "where", "doing", "run_enabled"})
"""Fields that may quote libraries, the system or the configuration. Names and paths are never changed."""
_FREE_TEXTS: dict[type[Event], tuple[str, ...]] = {}
"""Cache of the fields of an event class that are redacted."""


class Bus:
    """Passes events, in order, to listeners that may fail."""

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self._listeners = list(listeners)
        self._broken: set[int] = set()

    def join(self, listener: Listener) -> None:
        """Add a listener."""
        self._listeners.append(listener)

    def replace(self, old: Listener, new: Listener) -> None:
        """Replace a listener by another, which takes its place in the order."""
        self._listeners[self._listeners.index(old)] = new

    def emit(self, event: Event) -> None:
        """Pass an event, without secrets, to all listeners.

        A listener that raises is reported once, to all, and is tried again with the next event.
        """
        kind = type(event)
        free = _FREE_TEXTS.get(kind)
        if free is None:
            free = _FREE_TEXTS[kind] = _free_texts(kind)
        if free:
            event = _without_secrets(event, free)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  # whatever an output does, the backup goes on
                self._report_failure(listener, error)
            else:
                if self._broken:
                    self._broken.discard(id(listener))

    def failed(self, output: str, error: str) -> None:
        """Report that an output failed; outputs that find their own errors call this."""
        self.emit(OutputFailed(output=output, error=error))

    def _report_failure(self, listener: Listener, error: Exception) -> None:
        if id(listener) in self._broken:
            return
        self._broken.add(id(listener))
        name = getattr(listener, "output", "listener")
        self.failed(name, f"{type(listener).__name__}: {type(error).__name__}: {reason_text(error)}")


def _free_texts(kind: type[Event]) -> tuple[str, ...]:
    # The reason of an entry event, of which there are thousands, never quotes anything.
    chosen = _MAY_QUOTE - {"reason"} if issubclass(kind, EntryEvent) else _MAY_QUOTE
    return tuple(name for name in kind.fields if name in chosen)


def _without_secrets(event: Event, free: Iterable[str]) -> Event:
    values = vars(event)
    fresh: dict[str, str | tuple[str, ...]] = {}
    for name in free:
        value = values[name]
        if type(value) is str:  # and no StrEnum
            fresh[name] = redacted(value)
        elif type(value) is tuple:
            fresh[name] = tuple(redacted(each) for each in value)
    changed = any(fresh[name] != values[name] for name in fresh)
    return type(event)(**{**values, **fresh}) if changed else event
