"""SIGTERM and SIGINT as a question that long work asks between two steps, and as a wait that ends at once."""

import os
import select
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from job.errors import Exit

_EXITS = {signal.SIGTERM: Exit.TERMINATED, signal.SIGINT: Exit.INTERRUPTED}
_PATIENCE_SECONDS = 1.0


class StopSignal:
    """Remembers the first SIGTERM or SIGINT while the `with` block lasts; the old handlers come back after it.

    A second SIGINT, a second or more after the first, raises KeyboardInterrupt in the main thread: somebody at a
    terminal must get out of a copy that hangs on a dead mount. Nothing is lost by it, temps are swept by the next
    cycle. The second of grace is for wrappers that pass a Ctrl-C on which the terminal has already delivered. More
    SIGTERMs change nothing: whoever sends them has SIGKILL.

    To be entered in the main thread, the only one that Python lets handle signals.
    """

    signals = frozenset(_EXITS)

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._signal: signal.Signals | None = None
        self._asked_at = 0.0
        self._old_handlers: dict[signal.Signals, Any] = {}
        self._old_wakeup = -1
        self._read_end = -1
        self._write_end = -1

    def __enter__(self) -> Self:
        """Install the handlers."""
        # A handler that sets a threading.Event can deadlock on the event's own lock, and a signal between the last
        # look and the start of a wait would be seen only after it. The interpreter's wakeup descriptor is written by
        # the C handler itself, so a wait that polls it cannot miss a signal.
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old_wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        self._old_handlers = {number: signal.signal(number, self._handle) for number in _EXITS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Bring the old handlers back; what was asked for stays known."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._read_end)
        os.close(self._write_end)

    def requested(self) -> bool:
        """Tell whether to stop. Costs an attribute look-up; ask it as often as you like."""
        return self._signal is not None

    @property
    def signal_name(self) -> str:
        """Name of the first signal, `SIGTERM` or `SIGINT`; empty while none came."""
        return self._signal.name if self._signal else ""

    @property
    def exit(self) -> Exit:
        """The exit code of a one-shot run that was stopped; `OK` while none came."""
        return _EXITS[self._signal] if self._signal else Exit.OK

    def arrived(self) -> Exit:
        """Give the exit code of the stop that was asked for, also if the main thread hangs and did not notice.

        To be asked by another thread, which blocks `signals`: what waits for the main thread is pending there.
        """
        for number in signal.sigpending() & self.signals if self._signal is None else ():
            return _EXITS[signal.Signals(number)]
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        if self._signal is None and poll.poll(0):
            return Exit.TERMINATED  # the interpreter noticed, and the main thread runs nothing that could say which
        return self.exit

    def wait(self, seconds: float) -> bool:
        """Wait, at most so long; return at once when asked to stop, and tell whether that is so.

        Other handled signals may end the wait early, too.
        """
        if not self.requested():
            poll = select.poll()
            poll.register(self._read_end, select.POLLIN)
            if poll.poll(max(0.0, seconds) * 1000):
                os.read(self._read_end, 4096)
        return self.requested()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._signal is None:
            self._signal = signal.Signals(number)
            self._asked_at = self._monotonic()
        elif number == signal.SIGINT == self._signal and self._monotonic() - self._asked_at >= _PATIENCE_SECONDS:
            raise KeyboardInterrupt
