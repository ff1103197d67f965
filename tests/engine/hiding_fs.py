"""Serve a file system in memory whose listings hide names; a program of its own.

    python -m tests.engine.hiding_fs FOLDER CONTROL

CONTROL is a file of lines `listings path`: from so many listings of its folder on, the path is not shown any more, but
can be examined and read as before. It is read anew for each listing.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fidelity.nature import Nature
from tests.fidelity.storage import Storage

_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 20.0


class Forgetful(Storage):
    """The operations that `mfusepy` calls."""

    def __init__(self, control: Path) -> None:
        super().__init__(Nature())
        self._control = control
        self._listings: Counter[str] = Counter()
        self._text = ""

    def readdir(self, path: str, handle: int) -> Iterable[tuple[str, dict[str, int], int]]:
        text = self._control.read_text()
        if text != self._text:
            self._text = text
            self._listings.clear()
        hidden = set()
        for line in text.splitlines():
            listings, _, gone = line.partition(" ")
            if self._listings[path] >= int(listings):
                hidden.add(gone)
        self._listings[path] += 1
        return [each for each in super().readdir(path, handle) if os.path.join(path, each[0]) not in hidden]


@contextmanager
def hiding_fs(at: Path, control: Path) -> Iterator[Path]:
    """Mount it for a while."""
    control.write_text("")
    command = [sys.executable, "-m", "tests.engine.hiding_fs", str(at), str(control)]
    with subprocess.Popen(command, cwd=_ROOT) as server:
        try:
            deadline = time.monotonic() + _PATIENCE
            while not at.is_mount():
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield at
        finally:
            subprocess.run(["umount", "--lazy", str(at)], check=False)
            server.wait(_PATIENCE)


def main(folder: str, control: str) -> None:
    """Mount and serve."""
    from mfusepy import FUSE  # noqa: PLC0415  # who only mounts it need not have it

    FUSE(
        Forgetful(Path(control)), folder, foreground=True, nothreads=True, use_ino=True, attr_timeout=0, entry_timeout=0
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
