"""A folder of ours for large files without a name, such as those of SQLite: nobody else can know its name before.

It lies where SQLite would put them, which may be a folder in which every user may make names. One that a killed run
left is removed by the next: nothing is in it, and nobody has it locked.
"""

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice

from job.fs.private import open_ours

_PREFIX = "truecopy-scratch-"
_MOST_LOOKED_AT = 10_000


class Scratch:
    """The folder of one process: made when it is asked for, and removed at the end, by `close`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._bases = list(_bases(environ))
        self._folder = -1
        self._base = self._name = ""

    def folder(self) -> int:
        """Give the open folder, which is valid until `close`. Raises `OSError` where none is to be had."""
        if self._folder < 0 or not os.fstat(self._folder).st_nlink:  # what cleans up folders like /tmp removed it
            self.close()
            self._make()
        return self._folder

    def close(self) -> None:
        """Remove it."""
        if self._folder >= 0:
            folder, self._folder = self._folder, -1
            os.close(folder)
            with suppress(OSError):
                os.rmdir(os.path.join(self._base, self._name))

    def _make(self) -> None:
        for base in [base for base in self._bases for _ in range(2)]:
            name = _PREFIX + os.urandom(8).hex()
            try:
                os.mkdir(os.path.join(base, name), 0o700)
                self._folder = open_ours(os.fsencode(os.path.join(base, name)))
            except OSError:
                continue
            self._base, self._name = base, name
            with suppress(OSError):  # so that it is not taken for one that was left
                fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._folder).st_nlink:  # else another process of ours took it for one that was left
                _remove_left(base)
                return
            self.close()
        raise OSError(errno.ENOENT, "no folder for temporary files can be written to: " + ", ".join(self._bases))


def _bases(environ: Mapping[str, str]) -> Iterator[str]:
    given = environ.get("SQLITE_TMPDIR", ""), environ.get("TMPDIR", ""), "/var/tmp", "/tmp"  # noqa: S108
    return (base for base in dict.fromkeys(given) if base.startswith("/"))


def _remove_left(base: str) -> None:
    """Remove the folders that runs of this user left when they were killed."""
    with suppress(OSError), os.scandir(base) as found:
        for each in islice(found, _MOST_LOOKED_AT):
            if each.name.startswith(_PREFIX):
                with suppress(OSError):
                    _remove(each.path)


def _remove(path: str) -> None:
    folder = open_ours(os.fsencode(path))
    try:
        if os.fstat(folder).st_uid == os.geteuid():
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rmdir(path)
    finally:
        os.close(folder)
