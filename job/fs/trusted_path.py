"""Open configured folders without following links that another user may have made.

Otherwise a program that runs as root would write wherever another user's link points. As in rsync 3.5.0, a link is
followed only if it belongs to root or to this user, and never in a world-writable folder without the sticky bit, since
any user may rename entries there. Group-writable folders are allowed: only root can make a link owned by root.

Each component is opened relative to its parent's descriptor and checked after opening, so renames have no effect.
"""

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from job.fs.dircursor import closing_fd, single
from job.fs.mounts import is_read_only, resolve_path

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""O_DIRECTORY triggers automounts; O_PATH alone does not."""
_THING = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READABLE = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MOST_LINKS = 40
"""As in the kernel (path_resolution(7))."""


class UntrustedPath(PermissionError):
    """A link on the path may have been made by another user. `strerror` names link and owner, `hint` the remedy."""

    def __init__(self, link: str, why: str) -> None:
        super().__init__(errno.EPERM, f"{link} is a link {why}")
        self.link = link
        """Path of the link."""
        self.hint = (
            f"Write a path without this link, put a folder in its place, or, if it is right, "
            f"make it yourself as root: chown -h root {link}"
        )


def open_trusted_folder(path: str) -> int:
    """Open a folder for reading; links on its path, including the last component, must belong to root or this user.

    Raises `UntrustedPath` for other links, otherwise `OSError` with the path up to the failed component as `filename`.
    """
    place = open_trusted_place(path)
    try:
        return os.open(b".", _READABLE, dir_fd=place)
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(place)


def open_trusted_parent(path: str) -> tuple[int, bytes]:
    """Open the parent of a path by `open_trusted_place`; return it with the last name.

    The name itself is not checked: use it with O_NOFOLLOW. Raises as `open_trusted_place`.
    """
    parent, _, name = path.rstrip("/").rpartition("/")
    if name in {"", ".", ".."}:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    above = parent or ("/" if path.startswith("/") else ".")
    return open_trusted_place(above), os.fsencode(name)


def why_no_place(path: str) -> str:
    """Return why no file can be created at a path; empty if no obstacle was found. Creates nothing."""
    try:
        folder, name = open_trusted_parent(path)
    except UntrustedPath as error:
        return f"{error.strerror}. {error.hint}"
    except OSError as error:
        return f"{error.filename or path} cannot be opened: {error.strerror}; make this folder, or write another path"
    try:
        if is_read_only(folder):
            return "lies on a file system that is read-only here; write another path"
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return "is a folder; write the path of a file"
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"no file can have this path: {error.strerror}; write another one"
    finally:
        os.close(folder)
    return ""


def open_trusted_place(path: str) -> int:
    """Open a folder as O_PATH, which needs no read permission: usable as `dir_fd`, not for listing or syncing.

    Raises as `open_trusted_folder`.
    """
    if not path:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return Walk(path).end()


class Walk:
    """A walk along a path, each component opened relative to its parent."""

    to_file = False
    """Whether the last component may be a file."""

    def __init__(self, path: str) -> None:
        """Open the root or the working directory."""
        self._names = _components(path)
        """Remaining components, the next one last."""
        self._links = 0
        self._shown = "/" if path.startswith("/") else ""
        """The path walked so far, for messages."""
        self._at = os.open("/" if path.startswith("/") else ".", _STEP)

    def end(self) -> int:
        """Walk to the end and return its descriptor. Raises as `open_trusted_place`."""
        try:
            self.enter(self._at, self._shown or ".")
            while self._names:
                self._enter_component(self._names.pop())
        except BaseException:
            os.close(self._at)
            raise
        return self._at

    def _enter_component(self, name: str) -> None:
        shown = self._shown + name
        try:
            below = self._open_component(name, shown)
        except OSError as error:
            error.filename = error.filename and shown
            raise
        if below is not None:
            os.close(self._at)
            self._at, self._shown = below, f"{shown}/"
            self.enter(below, shown)

    def enter(self, place: int, shown: str) -> None:
        """Check an opened component, displayed as `shown`; accepts all here."""

    def pass_link(self, link: os.stat_result, shown: str) -> None:
        """Check a link in the folder `_at` before it is followed. Raises `UntrustedPath`."""
        if why := _why_untrusted(link, os.fstat(self._at)):
            raise UntrustedPath(shown, why)

    def _open_component(self, name: str, shown: str) -> int | None:
        """Open the folder `name`; None for a link, after its components were put before the remaining ones."""
        try:
            return os.open(name, _STEP, dir_fd=self._at)
        except NotADirectoryError:
            thing = os.open(name, _THING, dir_fd=self._at)
        status = os.fstat(thing)
        if stat.S_ISDIR(status.st_mode):
            return thing  # created between the two calls
        with closing_fd(thing):
            if not stat.S_ISLNK(status.st_mode):
                if self.to_file and not self._names:
                    return os.dup(thing)
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), shown)
            self._follow(thing, status, shown)
        return None

    def _follow(self, link: int, status: os.stat_result, shown: str) -> None:
        self.pass_link(status, shown)
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), shown)
        target = os.readlink("", dir_fd=link)
        self._names += _components(target)
        if target.startswith("/"):
            above, self._at = self._at, os.open("/", _STEP)
            os.close(above)
            self._shown = "/"


def _components(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}][::-1]


def _why_untrusted(link: os.stat_result, folder: os.stat_result) -> str:
    """Return why a link is not followed; empty if it is."""
    user = os.geteuid()
    if link.st_uid not in {0, user}:
        followed = f"root and of user {user}" if user else "root"
        return f"of user {link.st_uid}, and only links of {followed} are followed"
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        return "in a folder that everybody may write to, where anybody may exchange it"
    return ""


def make_folders(path: str, sources: Sequence[str], mirrors: Sequence[str]) -> int:
    """Open a folder for `dir_fd`, creating missing components with mode 0700. Raises `OSError`.

    Creates nothing at, in or above a mirror, nor at or above a source, so that an unmounted disk does not seem to
    exist. Inside a source, such as a home folder, creates only if the source is not empty.
    """
    missing: list[str] = []
    at = os.path.abspath(path)
    folder = None
    while folder is None:
        try:
            folder = open_trusted_place(at)
        except FileNotFoundError:
            missing.append(at)
            at = os.path.dirname(at)
    try:
        for each in reversed(missing):
            _check_apart(each, sources, mirrors)
            name = single(os.fsencode(os.path.basename(each)))
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=folder)
            below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = below
    except BaseException:
        os.close(folder)
        raise
    return folder


def _check_apart(path: str, sources: Sequence[str], mirrors: Sequence[str]) -> None:
    """Raise `PermissionError` if a folder must not be created."""
    for shape in (os.path.abspath, resolve_path):
        shaped = shape(path)
        for other in (*sources, *mirrors):
            other_shaped = shape(other)
            common = os.path.commonpath((shaped, other_shaped))
            inside_a_source = other in sources and common == other_shaped != shaped and _holds_anything(other_shaped)
            if common in {shaped, other_shaped} and not inside_a_source:
                why = f"{path} does not exist, and is not made, since the disk of {other} may not be mounted there"
                raise PermissionError(errno.EPERM, why)


def _holds_anything(folder: str) -> bool:
    try:
        with os.scandir(folder) as found:
            return any(True for _ in found)
    except OSError:
        return False
