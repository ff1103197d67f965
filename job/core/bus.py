"""The one stream of events: every listener hears every event, and none can hurt another or the cycle."""

from collections.abc import Iterable

from job.core.events import Event, Listener, OutputFailed
from job.core.outcome import reason_text


class Bus:
    """Hands events on, in order, to listeners that may fail."""

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self._listeners = list(listeners)
        self._broken: set[int] = set()

    def join(self, listener: Listener) -> None:
        """Let one more listener hear everything from now on."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Tell everybody. A listener that raises is told of once, to all, and is tried again with the next event."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  # whatever an output does, the backup goes on
                self._tell_of(listener, error)
            else:
                if self._broken:
                    self._broken.discard(id(listener))

    def failed(self, output: str, error: str) -> None:
        """Tell that an output failed; outputs that notice by themselves call this."""
        self.emit(OutputFailed(output=output, error=error))

    def _tell_of(self, listener: Listener, error: Exception) -> None:
        if id(listener) in self._broken:
            return
        self._broken.add(id(listener))
        name = getattr(listener, "output", "listener")
        self.failed(name, f"{type(listener).__name__}: {type(error).__name__}: {reason_text(error)}")
