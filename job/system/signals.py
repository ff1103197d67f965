"""The signals of a run: flags that work checks between two steps, and a wait that a signal ends at once.

The main process handles signals; workers ignore them and are stopped by pipe.
"""

import contextlib
import os
import select
import signal
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from job.errors import Exit

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU, signal.SIGPWR)
"""Signals that stop a run in order; so does SIGHUP when the terminal hangs up."""

NO_MEANING = (signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGPOLL, signal.SIGSTKFLT)
"""Signals without effect, handled because by default they end a process without a log line."""

HANDLED = frozenset((*STOPS, signal.SIGHUP, signal.SIGUSR1, *NO_MEANING))
"""Python itself ignores SIGPIPE and SIGXFSZ: the system call fails instead."""
_INTERACTIVE = frozenset((signal.SIGINT, signal.SIGQUIT))
_KEPT_IGNORED = frozenset((signal.SIGHUP, signal.SIGQUIT))
"""Stay ignored if they were ignored at the start, as by `nohup`: the run must outlive the terminal."""
_GRACE_SECONDS = 1.0
_NO_SIGNAL = b"\0"

_EFFECTS = {
    signal.SIGHUP: ("the configuration is read again now", "the configuration is read again after this cycle"),
    signal.SIGUSR1: ("a cycle starts now", "another cycle starts right after this one"),
}
"""Effects of a signal that the service receives between two cycles, and in a cycle."""
_NO_EFFECT = "it means nothing to Truecopy"
_NO_EFFECT_ONCE = "it means nothing with --once"


class StopSignal:
    """Handles all signals of a run within the `with` block, and restores the old handlers after it.

    The `STOPS` request a stop, and the first one is stored; so does SIGHUP with `--once`, and for the `service` if its
    terminal hung up. Otherwise SIGHUP makes the service reload its configuration, and SIGUSR1 start a cycle. Other
    signals are reported and have no effect.

    The same SIGINT or SIGQUIT again, at least a second after the first, raises KeyboardInterrupt in the main thread, to
    leave a copy that hangs on a dead mount. Nothing is lost: the next cycle removes temps. Wrappers may repeat a Ctrl-C
    that the terminal delivered too, hence the second. More SIGTERMs change nothing: their sender has SIGKILL.

    To be entered in the main thread, the only one in which Python handles signals.
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
        # A handler that sets a threading.Event can deadlock on the event's lock, and a signal just before a wait would
        # be seen only after it. The C handler writes to the wakeup descriptor, so polling it misses no signal.
        self._read_end, self._write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._old_wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in HANDLED:
            old = signal.getsignal(number)
            if old is not signal.SIG_IGN or number not in _KEPT_IGNORED or (self._service and number == signal.SIGHUP):
                self._old_handlers[number] = signal.signal(number, self._handle)
            if old is signal.SIG_IGN and number == signal.SIGHUP:
                self._had_terminal = False
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the old handlers; requests are kept."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self._read_end)
        os.close(self._write_end)

    def requested(self) -> bool:
        """Return whether to stop. Cheap: one attribute access."""
        return self._signal is not None

    @property
    def signal_name(self) -> str:
        """Name of the signal that requested the stop, such as `SIGTERM`; empty without a request."""
        return self._signal.name if self._signal else ""

    @property
    def exit(self) -> Exit:
        """The exit code of a stopped one-shot run; `OK` without a request."""
        return _exit_of(self._signal) if self._signal else Exit.OK

    def requests(self) -> set[str]:
        """Return and clear the pending requests to the service, `SIGHUP` and `SIGUSR1`."""
        return {self._requests.popleft().name for _ in range(len(self._requests))}

    def notices(self, *, busy: bool) -> list[tuple[str, str]]:
        """Return and clear the received signals that do not stop the run, each with its effect.

        `busy` is true in a cycle. Thread-safe: each signal is returned once.
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
        """Return the exit code of a requested stop, even if the main thread hangs and has not handled its signal.

        For another thread that blocks `signals`, which then are pending for the process.
        """
        if self._signal is None:
            with contextlib.suppress(BlockingIOError):
                self._woken_by.update(os.read(self._read_end, 4096))
                os.write(self._write_end, _NO_SIGNAL)  # a wait that starts now must still end at once
            for number in self._woken_by | {int(each) for each in signal.sigpending()}:
                if number in HANDLED and self._stops(number):
                    return _exit_of(signal.Signals(number))
        return self.exit

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` or until a signal arrives; return whether to stop."""
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
        elif (
            number in _INTERACTIVE and number == self._signal and self._monotonic() - self._stop_time >= _GRACE_SECONDS
        ):
            raise KeyboardInterrupt

    def _note_request(self, number: signal.Signals) -> None:
        for waiting in (self._requests, self._notices) if number in _EFFECTS else (self._notices,):
            if number not in waiting:
                waiting.append(number)


def _exit_of(number: signal.Signals) -> Exit:
    return Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED


def _has_terminal() -> bool:
    """Return whether this process has a controlling terminal; it has none any more when SIGHUP of a hangup arrives."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
