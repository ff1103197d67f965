"""Private folders for small files of Truecopy that have no other place, and scratch folders for SQLite's temp files.

Private folders never lie below /tmp or another folder in which every user may make names. Candidates, in this order:
`$XDG_RUNTIME_DIR`, `$RUNTIME_DIRECTORY`, the state folder of the environment and that of the user. Without any of them
a start is slower, nothing else. A scratch folder has a random name, so it may lie in /tmp; one that a killed run left
is empty and unlocked, and the next run removes it.

Every health check of a container imports this module, so it imports nothing heavy.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from job.fs.small_files import open_own_file, open_own_folder

_OTHERS = 0o077


class PrivateFolder(NamedTuple):
    """Where a private folder may be."""

    base: str
    """A folder that has to exist, and to be ours or root's."""
    name: str
    """Of the private folder in it."""
    persistent: bool = False
    """Whether it outlasts a restart of the machine, and may lie in what is backed up."""
    outside_trees: bool = False
    """Whether it must not lie in a source or mirror at all."""

    @property
    def path(self) -> str:
        """The whole path, to be shown."""
        return os.path.join(self.base, self.name)


def places(environ: Mapping[str, str]) -> list[PrivateFolder]:
    """Give the places that an environment names, the first to be taken first. Nothing is looked at."""
    found = [PrivateFolder(base, "truecopy") for base in _runtime_folders(environ) if base.startswith("/")]
    state = environ.get("TRUECOPY_STATE_DIR", "")
    if state.startswith("/"):
        found.append(PrivateFolder(state, ".private", persistent=True, outside_trees=True))
    home, _ = state_home(environ)
    if home is not None:
        found.append(PrivateFolder(os.path.join(home, "truecopy"), "private", persistent=True))
    return found


def _runtime_folders(environ: Mapping[str, str]) -> tuple[str, str]:
    # systemd separates several by colons; the first is the one of the unit's name.
    return environ.get("XDG_RUNTIME_DIR", ""), environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]


def state_home(environ: Mapping[str, str]) -> tuple[str | None, str]:
    """Give the folder for state of the user's programs (XDG base directories), or why there is none."""
    given = environ.get("XDG_STATE_HOME", "")
    if given.startswith("/"):
        return given, ""
    home = environ.get("HOME", "") or _home_by_number()
    if not home.startswith("/") or not os.path.isdir(home):
        return None, f"the home folder {home} does not exist" if home else "no home folder is known"
    return os.path.join(home, ".local", "state"), ""


def _home_by_number() -> str:
    # Services of systemd have no HOME.
    import pwd  # noqa: PLC0415  # hardly ever needed

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return ""


def open_private(place: PrivateFolder, *, make: bool = False, tighten: bool = False) -> int:
    """Open a private folder; `make` makes it if only that is missing, and `tighten` closes one that was open to others.

    Raises `FileNotFoundError` where it is not to be had, and another `OSError`, in words, where something else has its
    name, or, unless it is to be mended, where others may enter it.
    """
    base = _open_base(place.base)
    try:
        if make:
            _make(place, base)
        return _open_checked(place, base, tighten=tighten)
    finally:
        os.close(base)


def _make(place: PrivateFolder, base: int) -> None:
    try:
        os.mkdir(place.name, 0o700, dir_fd=base)
    except FileExistsError:
        return
    except OSError as error:
        raise FileNotFoundError(errno.ENOENT, error.strerror, place.path) from None


def _open_base(path: str) -> int:
    try:
        base = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FileNotFoundError(errno.ENOENT, error.strerror, path) from None
    owner = os.fstat(base).st_uid
    if owner in {os.geteuid(), 0}:
        return base
    os.close(base)  # as where one user's variables are handed on to another, by su or sudo
    raise FileNotFoundError(errno.ENOENT, f"it belongs to user {owner}", path)


def _open_checked(place: PrivateFolder, base: int, *, tighten: bool) -> int:
    try:
        folder = os.open(place.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=base)
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            raise OSError(error.errno, f"{place.path} is not a folder") from None
        raise
    try:
        _check_private(folder, place.path, tighten=tighten)
    except OSError:
        os.close(folder)
        raise
    return folder


def _check_private(folder: int, path: str, *, tighten: bool) -> None:
    seen = os.fstat(folder)
    if seen.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, f"{path} belongs to user {seen.st_uid}")
    if seen.st_mode & _OTHERS:
        if not tighten:
            raise PermissionError(errno.EPERM, f"{path} is open to others")
        os.fchmod(folder, 0o700)


def choose(found: Iterable[PrivateFolder], passed_over: Callable[[str, str], None]) -> PrivateFolder | None:
    """Give the first place where a private folder is or can be made, for us alone; None if there is none.

    `passed_over` is told the path, and why, where something else has the name.
    """
    for place in found:
        try:
            os.close(open_private(place, make=True, tighten=True))
        except FileNotFoundError:
            continue
        except OSError as error:
            passed_over(place.path, error.strerror or str(error))
        else:
            return place
    return None


def read(place: PrivateFolder, name: str, *, most_bytes: int, tighten: bool = False) -> bytes:
    """Read a file in a private folder; raises `OSError`, and `ValueError` for what is no file of ours."""
    folder = open_private(place, tighten=tighten)
    try:
        descriptor = open_own_file(name, folder, os.O_RDONLY)
    finally:
        os.close(folder)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise ValueError("not a file of ours")
        return os.read(descriptor, most_bytes)
    finally:
        os.close(descriptor)


_PREFIX = "truecopy-scratch-"
_MOST_LOOKED_AT = 10_000


class ScratchFolder:
    """The folder of one process: made when it is asked for, and removed at the end, by `close`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._temp_folders = list(_temp_folders(environ))
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
        for base in [base for base in self._temp_folders for _ in range(2)]:
            name = _PREFIX + os.urandom(8).hex()
            try:
                os.mkdir(os.path.join(base, name), 0o700)
                self._folder = open_own_folder(os.fsencode(os.path.join(base, name)))
            except OSError:
                continue
            self._base, self._name = base, name
            with suppress(OSError):  # so that it is not taken for one that was left
                fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._folder).st_nlink:  # else another process of ours took it for one that was left
                _remove_abandoned(base)
                return
            self.close()
        raise OSError(errno.ENOENT, "no folder for temporary files can be written to: " + ", ".join(self._temp_folders))


def _temp_folders(environ: Mapping[str, str]) -> Iterator[str]:
    given = environ.get("SQLITE_TMPDIR", ""), environ.get("TMPDIR", ""), "/var/tmp", "/tmp"  # noqa: S108
    return (base for base in dict.fromkeys(given) if base.startswith("/"))


def _remove_abandoned(base: str) -> None:
    """Remove the folders that runs of this user left when they were killed."""
    with suppress(OSError), os.scandir(base) as found:
        for each in islice(found, _MOST_LOOKED_AT):
            if each.name.startswith(_PREFIX):
                with suppress(OSError):
                    _remove(each.path)


def _remove(path: str) -> None:
    folder = open_own_folder(os.fsencode(path))
    try:
        if os.fstat(folder).st_uid == os.geteuid():
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rmdir(path)
    finally:
        os.close(folder)
