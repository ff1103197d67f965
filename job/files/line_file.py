"""A file that lines are added to, such as a log file: opened when first needed and again after it was rotated away."""

import contextlib
import os
import stat

# NONBLOCK so that opening a planted FIFO ends at once instead of waiting for a reader.
_OPEN_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class LineFile:
    """A regular file at `path`, for its owner only if it has to be made; folders above it are made, too."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1
        self._identity = (0, 0)
        self._torn = False

    def add(self, lines: str) -> None:
        """Add whole lines of ASCII, each with its line end.

        Raises `OSError` where they cannot all be written; then the file has the first of them, the last one maybe torn,
        and the others are lost. Nothing that is added later is glued to a torn line.
        """
        if self._descriptor < 0 or self._moved():
            self.close()
            self._open()
        data = (b"\n" if self._torn else b"") + lines.encode("ascii")
        written = 0
        try:
            # A disk that is almost full takes a part first and tells why only at the next try.
            while written < len(data):
                written += os.write(self._descriptor, data[written:] if written else data)
        finally:
            if written:
                self._torn = data[written - 1 : written] != b"\n"

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
        self._descriptor, self._identity, self._torn = descriptor, (opened.st_dev, opened.st_ino), False
