"""Lines added to a file or stream, such as a log: whole ones, in one go, to the file that has the name now."""

import contextlib
import os
import stat

# NONBLOCK so that opening a planted FIFO ends at once instead of waiting for a reader.
_OPEN_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class LineEnd:
    """Adds whole lines to an open descriptor, also where it takes only a part of them."""

    def __init__(self, *, torn: bool = False) -> None:
        """`torn` says that somebody before us left a part of a line, which ends before ours begin."""
        self._begun = b"\n" if torn else b""

    def add(self, descriptor: int, lines: str) -> None:
        """Add lines of ASCII, each with its line end.

        Raises `OSError` where not all of them are taken. The others are lost, but for one that was begun: the rest of
        it comes before the next lines, so that no line is torn and none is glued to another.
        """
        data = self._begun + lines.encode("ascii")
        written = 0
        try:
            # A disk that is almost full takes a part first, and says why only at the next try.
            while written < len(data):
                written += os.write(descriptor, data[written:] if written else data)
        finally:
            begun = data[written - 1 : written] != b"\n" if written else bool(self._begun)
            self._begun = data[written : data.find(b"\n", written) + 1] if begun else b""


class LineFile:
    """A regular file at `path`, for its owner only if it has to be made; folders above it are made, too."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1
        self._identity = (0, 0)
        self._end = LineEnd()

    def add(self, lines: str) -> None:
        """Add whole lines of ASCII, each with its line end. Raises `OSError` where not all of them are taken."""
        if self._descriptor < 0 or self._moved():
            self.close()
            self._open()
        self._end.add(self._descriptor, lines)

    def close(self) -> None:
        """Close the file; the next lines open it again."""
        if self._descriptor >= 0:
            # Nothing is buffered here; an error of an earlier write that close reports cannot be acted on.
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def _moved(self) -> bool:
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return True
        return (there.st_dev, there.st_ino) != self._identity

    def _open(self) -> None:
        if folder := os.path.dirname(self.path):
            os.makedirs(folder, exist_ok=True)
        descriptor = os.open(self.path, _OPEN_FLAGS, 0o600)
        opened = os.fstat(descriptor)
        if not stat.S_ISREG(opened.st_mode):
            os.close(descriptor)
            message = f"{self.path} is not a regular file"
            raise OSError(message)
        self._descriptor = descriptor
        if self._identity != (opened.st_dev, opened.st_ino):
            self._identity = opened.st_dev, opened.st_ino
            self._end = LineEnd(torn=_is_torn(descriptor, opened.st_size))


def _is_torn(file: int, size: int) -> bool:
    """Tell whether an open file ends in mid-line, as a full disk or a kill leaves it; False if it cannot be read."""
    if not size:
        return False
    with contextlib.suppress(OSError):
        readable = os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(readable, 1, size - 1) != b"\n"
        finally:
            os.close(readable)
    return False
