"""Pace: called with every chunk of bytes copied; keeps the rate limit, notices a stop, tells progress."""

from collections.abc import Callable

from job.errors import Stopped

_LONGEST_WAIT_SECONDS = 0.5


class Pace:
    """The heartbeat of the copy loop of one pair."""

    def __init__(
        self,
        rate_limit: int | None,
        *,
        stop: Callable[[], bool],
        progress: Callable[[int], None],
        clock: Callable[[], float],
        wait: Callable[[float], object],
    ) -> None:
        """`rate_limit` is in bytes a second; `clock` is monotonic, in seconds; `wait` sleeps."""
        self._rate = rate_limit
        self._stop = stop
        self._progress = progress
        self._clock = clock
        self._wait = wait
        self._free_at = clock()

    def __call__(self, count: int) -> None:
        """Account for `count` bytes. Raises `Stopped` when the run is to end: the current file is dropped."""
        if self._stop():
            raise Stopped("stopped while a file was being copied")
        self._progress(count)
        if self._rate is None or count == 0:
            return
        # Time not used is not saved up: after a pause the limit still holds for every second.
        self._free_at = max(self._free_at, self._clock()) + count / self._rate
        while (left := self._free_at - self._clock()) > 0:
            if self._stop():
                raise Stopped("stopped while a file was being copied")
            self._wait(min(left, _LONGEST_WAIT_SECONDS))
