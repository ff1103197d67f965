"""Standard input, output and error: always open, and never a cause of a traceback.

A scheduler may start a program with some of the three closed. The next opened file would get that descriptor, and
printed text would be written into it: into a file of the mirror, or into the index.
"""

import errno
import io
import os
import select
import sys
from typing import TextIO

from job.errors import JobError


class OutputLost(JobError):
    """Standard output could not be written by a command whose result is its output."""


class _Raw(io.FileIO):
    """A standard stream; output after the first write error is dropped."""

    def __init__(self, descriptor: int, *, needed: bool, closed: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.needed = needed
        """Whether a write error ends the command."""
        self.missing = closed
        """Whether the stream was closed when the program started."""
        self._lost = False

    def write(self, data: object, /) -> int:
        """Write all, waiting for a full pipe or terminal. Raises `OutputLost` for the first error."""
        view = memoryview(data)  # type: ignore[arg-type]  # what io gives is a buffer
        if self._lost:
            return view.nbytes
        try:
            return self._write(view)
        except OSError as error:
            self._lost = True
            if self.needed:
                raise OutputLost(_error_text(error)) from error
            return view.nbytes

    def _write(self, view: memoryview) -> int:
        if self.missing:
            raise OSError(errno.EBADF, "it is closed")
        while (written := super().write(view)) is None:
            # Another program made the terminal or pipe non-blocking for all that share it.
            select.select([], [self.fileno()], [])
        return written


def secure() -> None:
    """Open closed standard streams, and make them raise `OutputLost` at most, not `OSError`.

    Call this before any file is opened. Streams replaced by a caller in the same process stay.
    """
    closed = [_occupy(descriptor) for descriptor in range(3)]
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # as long as the process
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        sys.stdout = _stream(1, sys.stdout, needed=True, closed=closed[1])
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _stream(2, sys.stderr, needed=False, closed=closed[2])


def tolerate_lost_output() -> None:
    """Ignore lost output: the work or exit code of this command does not depend on it."""
    raw = _raw_of(sys.stdout)
    if raw is not None:
        raw.needed = False


def has_output() -> bool:
    """Return whether standard output was open at the start."""
    raw = _raw_of(sys.stdout)
    return raw is None or not raw.missing


def _occupy(descriptor: int) -> bool:
    """Open the null device at a closed descriptor; return whether it was closed."""
    try:
        os.fstat(descriptor)
    except OSError:
        # `open` returns the lowest free number, and all lower ones are in use.
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        return True
    return False


def _stream(descriptor: int, before: TextIO | None, *, needed: bool, closed: bool) -> TextIO:
    raw = _Raw(descriptor, needed=needed, closed=closed)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before is not None else "utf-8",
        errors="backslashreplace",  # a terminal that cannot show a character gets its escape
        line_buffering=descriptor == 2 or raw.isatty(),  # noqa: PLR2004  # standard error
    )


def _raw_of(stream: TextIO) -> _Raw | None:
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Raw) else None


def _error_text(error: OSError) -> str:
    # A reader that closes the pipe, such as `head`, is no error to report, as with other programs.
    if error.errno == errno.EPIPE:
        return ""
    return f"standard output cannot be written: {error.strerror}"
