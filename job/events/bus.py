"""The one stream of events: every listener hears every event, and none can hurt another or the cycle."""

from collections.abc import Iterable

from job.core.outcome import reason_text
from job.core.redaction import redacted
from job.events.service import EntryEvent, Event, Listener, OutputFailed

_MAY_QUOTE = frozenset({"error", "hint", "faults", "reason", "traceback", "where", "doing", "run_enabled"})
"""Fields with words of libraries, of the system or of the configuration. Names and paths are never changed."""
_FREE_TEXTS: dict[type[Event], tuple[str, ...]] = {}
"""Which fields of an event are of this kind: settled once for each kind, of which a mass copy tells thousands."""


class Bus:
    """Hands events on, in order, to listeners that may fail."""

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self._listeners = list(listeners)
        self._broken: set[int] = set()

    def join(self, listener: Listener) -> None:
        """Let one more listener hear everything from now on."""
        self._listeners.append(listener)

    def replace(self, old: Listener, new: Listener) -> None:
        """Let another listener hear everything in the place of one."""
        self._listeners[self._listeners.index(old)] = new

    def emit(self, event: Event) -> None:
        """Tell everybody, and nobody a secret.

        A listener that raises is told of once, to all, and is tried again with the next event.
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
        """Tell that an output failed; outputs that notice by themselves call this."""
        self.emit(OutputFailed(output=output, error=error))

    def _report_failure(self, listener: Listener, error: Exception) -> None:
        if id(listener) in self._broken:
            return
        self._broken.add(id(listener))
        name = getattr(listener, "output", "listener")
        self.failed(name, f"{type(listener).__name__}: {type(error).__name__}: {reason_text(error)}")


def _free_texts(kind: type[Event]) -> tuple[str, ...]:
    # Of an entry, of which there may be thousands, the reason is always a word of our own.
    chosen = _MAY_QUOTE - {"reason"} if issubclass(kind, EntryEvent) else _MAY_QUOTE
    return tuple(name for name in kind.fields if name in chosen)


def _without_secrets(event: Event, free: Iterable[str]) -> Event:
    values = vars(event)
    fresh: dict[str, str | tuple[str, ...]] = {}
    for name in free:
        value = values[name]
        if type(value) is str:  # and not one of a closed list of words, which are texts, too
            fresh[name] = redacted(value)
        elif type(value) is tuple:
            fresh[name] = tuple(redacted(each) for each in value)
    changed = any(fresh[name] != values[name] for name in fresh)
    return type(event)(**{**values, **fresh}) if changed else event
