"""The signals of a run, as questions that long work asks between two steps and as a wait that ends at once.

The main process handles them; workers ignore them all and are stopped over their pipe.
"""

import contextlib
import os
import select
import signal
from collections import deque
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from job.errors import Exit

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU, signal.SIGPWR)
"""They end a run in an orderly way; so does SIGHUP from a terminal that hangs up."""

NO_MEANING = (signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGPOLL, signal.SIGSTKFLT)
"""They mean nothing to a run, and would end it without a log line."""

HANDLED = frozenset((*STOPS, signal.SIGHUP, signal.SIGUSR1, *NO_MEANING))
"""Python itself ignores SIGPIPE and SIGXFSZ: the call that they tell of fails instead."""


_INTERACTIVE = frozenset((signal.SIGINT, signal.SIGQUIT))
_KEPT_IGNORED = frozenset((signal.SIGHUP, signal.SIGQUIT))
"""Left as they are where they were ignored at the start, as by `nohup`: the run is to outlive the terminal."""
_GRACE_SECONDS = 1.0
_NO_SIGNAL = b"\0"

_EFFECTS = {
    signal.SIGHUP: ("the configuration is read again now", "the configuration is read again after this cycle"),
    signal.SIGUSR1: ("a cycle starts now", "another cycle starts right after this one"),
}
"""Of a signal that the service was sent between two cycles, and in one."""
_NO_EFFECT = "it means nothing to Truecopy"
_NO_EFFECT_ONCE = "it means nothing with --once"


class StopSignal:
    """Handles every signal that a run may be sent while the `with` block lasts; the old handlers come back after it.

    SIGTERM, SIGINT and the other `STOPS` ask to stop, and the first one is remembered; so does SIGHUP with `--once`,
    and for the `service` if its terminal hung up. Otherwise SIGHUP asks the service to read its configuration again,
    and SIGUSR1 to start a cycle. Any other one is reported and has no effect.

    A second SIGINT or SIGQUIT, a second or more after the first, raises KeyboardInterrupt in the main thread: a person
    at a terminal must get out of a copy that hangs on a dead mount. Nothing is lost by it, temps are swept by the next
    cycle. The second of grace is for wrappers that pass a Ctrl-C on which the terminal has already delivered. More
    SIGTERMs change nothing: their sender has SIGKILL.

    To be entered in the main thread, the only one that Python lets handle signals.
    """

    signals = HANDLED

    def __init__(self, *, monotonic: Callable[[], float], service: bool = False) -> None:
        self._monotonic = monotonic
        self._service = service
        self._had_terminal = service and _has_terminal()
        self._signal: signal.Signals | None = None
        self._stop_time = 0.0
        self._requests: deque[signal.Signals] = deque()
        self._notices: deque[signal.Signals] = deque()
        self._woken_by: set[int] = set()
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
        for number in HANDLED:
            old = signal.getsignal(number)
            if old is not signal.SIG_IGN or number not in _KEPT_IGNORED or (self._service and number == signal.SIGHUP):
                self._old_handlers[number] = signal.signal(number, self._handle)
            if old is signal.SIG_IGN and number == signal.SIGHUP:
                self._had_terminal = False
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
        """Name of the signal that asked to stop, such as `SIGTERM`; empty while none did."""
        return self._signal.name if self._signal else ""

    @property
    def exit(self) -> Exit:
        """The exit code of a one-shot run that was stopped; `OK` while nothing asked for it."""
        return _exit_of(self._signal) if self._signal else Exit.OK

    def requests(self) -> set[str]:
        """Name the signals that ask the service for something, `SIGHUP` and `SIGUSR1`, and forget them."""
        return {self._requests.popleft().name for _ in range(len(self._requests))}

    def notices(self, *, busy: bool) -> list[tuple[str, str]]:
        """Name the signals that came and do not stop the run, each with its effect, and forget them.

        `busy` is true in a cycle. May be asked by any thread; each signal is told to one of them.
        """
        notices: list[tuple[str, str]] = []
        with contextlib.suppress(IndexError):
            while True:
                notices.append(self._with_effect(self._notices.popleft(), busy=busy))
        return notices

    def _with_effect(self, number: signal.Signals, *, busy: bool) -> tuple[str, str]:
        if number not in _EFFECTS:
            return number.name, _NO_EFFECT
        return number.name, _EFFECTS[number][busy] if self._service else _NO_EFFECT_ONCE

    def pending_exit(self) -> Exit:
        """Give the exit code of the stop that was asked for, also if the main thread hangs and did not notice.

        To be asked by another thread, which blocks `signals`: what waits for the main thread is pending there.
        """
        if self._signal is None:
            with contextlib.suppress(BlockingIOError):
                self._woken_by.update(os.read(self._read_end, 4096))
                os.write(self._write_end, _NO_SIGNAL)  # a wait that is about to begin must still end at once
            for number in self._woken_by | {int(each) for each in signal.sigpending()}:
                if number in HANDLED and self._stops(number):
                    return _exit_of(signal.Signals(number))
        return self.exit

    def wait(self, seconds: float) -> bool:
        """Wait, at most so long; return at once when a signal comes, and tell whether to stop."""
        if not self.requested():
            poll = select.poll()
            poll.register(self._read_end, select.POLLIN)
            if poll.poll(max(0.0, seconds) * 1000):
                with contextlib.suppress(BlockingIOError):
                    os.read(self._read_end, 4096)
        return self.requested()

    def _stops(self, number: int) -> bool:
        if number == signal.SIGHUP:
            return not self._service or (self._had_terminal and not _has_terminal())
        return number in STOPS

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if not self._stops(number):
            self._note_request(signal.Signals(number))
        elif self._signal is None:
            self._signal = signal.Signals(number)
            self._stop_time = self._monotonic()
        elif number in _INTERACTIVE and number == self._signal and self._grace_is_over():
            raise KeyboardInterrupt

    def _grace_is_over(self) -> bool:
        return self._monotonic() - self._stop_time >= _GRACE_SECONDS

    def _note_request(self, number: signal.Signals) -> None:
        for waiting in (self._requests, self._notices) if number in _EFFECTS else (self._notices,):
            if number not in waiting:
                waiting.append(number)


def _exit_of(number: signal.Signals) -> Exit:
    return Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED


def _has_terminal() -> bool:
    """Tell whether this process has a controlling terminal; one that hangs up is taken from it before it is told."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
