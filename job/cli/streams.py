"""Standard input, output and error as every command finds them: open, and never a reason for a traceback.

A scheduler may start a program with some of the three closed. The next file that is opened would get the number, and
what is printed would be written into it: into a mirror's file, or into the index.
"""

import errno
import io
import os
import select
import sys
from typing import TextIO

from job.errors import JobError


class OutputLost(JobError):
    """Standard output could not be written, by a command that is there to print."""


class _Raw(io.FileIO):
    """A standard stream. The first error of writing is remembered; what comes after it is dropped."""

    def __init__(self, descriptor: int, *, needed: bool, closed: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.needed = needed
        """Whether an error of writing ends the command."""
        self.missing = closed
        """Whether the stream was closed when the program started."""
        self._lost = False

    def write(self, data: object, /) -> int:
        """Write, and wait where the other side does not take it at once. Raises `OutputLost` for the first error."""
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
    """Open what of the three standard streams is closed, and make none of them able to raise `OSError`.

    To be called before anything else is opened. Streams that a caller in the same process has put there stay.
    """
    closed = [_occupy(descriptor) for descriptor in range(3)]
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # as long as the process
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        sys.stdout = _stream(1, sys.stdout, needed=True, closed=closed[1])
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _stream(2, sys.stderr, needed=False, closed=closed[2])


def tolerate_lost_output() -> None:
    """Say that the work of this command, or its exit code, does not depend on what it prints."""
    raw = _raw_of(sys.stdout)
    if raw is not None:
        raw.needed = False


def has_output() -> bool:
    """Tell whether there is a standard output at all."""
    raw = _raw_of(sys.stdout)
    return raw is None or not raw.missing


def _occupy(descriptor: int) -> bool:
    """Open the null device under this number if nothing is; tell whether that was so."""
    try:
        os.fstat(descriptor)
    except OSError:
        # The lowest free number is given, and all below it are in use.
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
    # A reader that goes away, as `head` does, has what it wanted: nothing is said, as with other programs.
    if error.errno == errno.EPIPE:
        return ""
    return f"standard output cannot be written: {error.strerror}"
