"""Private folders for small files of Truecopy, and scratch folders for SQLite's temp files.

Private folders are never in /tmp or another world-writable folder. A scratch folder has a random name, so it may be in
/tmp; one that a killed run left is empty and unlocked, and the next run removes it.

Every health check of a container imports this module, so it imports nothing heavy.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from job.fs.dircursor import closing_fd
from job.fs.own_files import open_own_file, open_own_folder

_OTHERS = 0o077


class PrivateFolder(NamedTuple):
    """A candidate for a private folder."""

    base: str
    """The parent, which must exist and belong to this user or root."""
    name: str
    persistent: bool = False
    """Whether it survives a reboot, and may be inside a source."""
    outside_trees: bool = False
    """Whether it must not be inside a source or mirror."""

    @property
    def path(self) -> str:
        """The whole path, for messages."""
        return os.path.join(self.base, self.name)


def places(environ: Mapping[str, str]) -> list[PrivateFolder]:
    """Return the candidates of an environment in order of preference. Accesses no files."""
    # systemd separates several folders by colons; the first has the unit's name.
    runtime = environ.get("XDG_RUNTIME_DIR", ""), environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    found = [PrivateFolder(base, "truecopy") for base in runtime if base.startswith("/")]
    state = environ.get("TRUECOPY_STATE_DIR", "")
    if state.startswith("/"):
        found.append(PrivateFolder(state, ".private", persistent=True, outside_trees=True))
    user_state, _ = state_home(environ)
    if user_state is not None:
        found.append(PrivateFolder(os.path.join(user_state, "truecopy"), "private", persistent=True))
    return found


def state_home(environ: Mapping[str, str]) -> tuple[str | None, str]:
    """Return the user's folder for state of programs (XDG base directories), or why it does not exist."""
    given = environ.get("XDG_STATE_HOME", "")
    if given.startswith("/"):
        return given, ""
    folder = environ.get("HOME", "") or _home_by_number()
    if not folder.startswith("/") or not os.path.isdir(folder):
        return None, f"the home folder {folder} does not exist" if folder else "no home folder is known"
    return os.path.join(folder, ".local", "state"), ""


def _home_by_number() -> str:
    # systemd services have no HOME.
    import pwd  # noqa: PLC0415  # rarely needed

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return ""


def open_private(place: PrivateFolder, *, make: bool = False, tighten: bool = False) -> int:
    """Open a private folder; `make` creates it if its parent exists, `tighten` closes one that is open to others.

    Raises `FileNotFoundError` if it is not available, and another `OSError` with a full message for a non-folder,
    another owner, or, without `tighten`, a folder open to others.
    """
    with closing_fd(_open_base(place.base)) as base:
        if make:
            _make(place, base)
        return _open_checked(place, base, tighten=tighten)


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
    os.close(base)  # su and sudo may pass on the variables of another user
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
    """Return the first candidate that exists or can be created; None if there is none.

    `passed_over` is called with the path and the reason for each unusable one that exists.
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
    """Read a file in a private folder. Raises `OSError`, and `ValueError` for a file of another user."""
    with closing_fd(open_private(place, tighten=tighten)) as folder:
        descriptor = open_own_file(name, folder, os.O_RDONLY)
    with closing_fd(descriptor):
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise ValueError("not a file of ours")
        return os.read(descriptor, most_bytes)


_PREFIX = "truecopy-scratch-"
_MAX_SCANNED = 10_000


class ScratchFolder:
    """The scratch folder of one process: created at first use, removed by `close`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._temp_folders = list(_temp_folders(environ))
        self._folder = -1
        self._base = self._name = ""

    def folder(self) -> int:
        """Return the open folder, valid until `close`. Raises `OSError` if none can be created."""
        if self._folder < 0 or not os.fstat(self._folder).st_nlink:  # removed by a cleaner of /tmp
            self.close()
            self._make()
        return self._folder

    def close(self) -> None:
        """Remove the folder."""
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
            with suppress(OSError):  # marks it as in use for `_remove_abandoned`
                fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._folder).st_nlink:  # otherwise another process removed it before the lock
                _remove_abandoned(base)
                return
            self.close()
        raise OSError(errno.ENOENT, "no folder for temporary files can be written to: " + ", ".join(self._temp_folders))


def _temp_folders(environ: Mapping[str, str]) -> Iterator[str]:
    given = environ.get("SQLITE_TMPDIR", ""), environ.get("TMPDIR", ""), "/var/tmp", "/tmp"  # noqa: S108
    return (base for base in dict.fromkeys(given) if base.startswith("/"))


def _remove_abandoned(base: str) -> None:
    """Remove the folders that killed runs of this user left."""
    with suppress(OSError), os.scandir(base) as found:
        for each in islice(found, _MAX_SCANNED):
            if each.name.startswith(_PREFIX):
                with suppress(OSError):
                    _remove(each.path)


def _remove(path: str) -> None:
    with closing_fd(open_own_folder(os.fsencode(path))) as folder:
        if os.fstat(folder).st_uid == os.geteuid():
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rmdir(path)
