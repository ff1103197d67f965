"""Open a folder that the config names, without following links that another user may have made on the way.

A program that runs as root would otherwise write wherever another user's link points. As in rsync 3.5.0, a link is
followed only if it belongs to root or to the user that runs this program; in a folder that everybody may write to and
that is not sticky, no link is followed, since anybody may move or exchange names there. A folder that only a group may
write to does not count: there, too, nobody but root can make a link of root's.

Each component is opened by a descriptor of the folder above it, and what is checked is what was opened: exchanging
names in between changes nothing.
"""

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from job.fs.dircursor import single
from job.fs.mounts import resolve_path

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""O_DIRECTORY makes the kernel mount what an automounter has to mount there; O_PATH alone does not."""
_THING = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READABLE = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MOST_LINKS = 40
"""As in the kernel (path_resolution(7))."""


class UntrustedPath(PermissionError):
    """A link on the way may have been made by another user. `strerror` says which and whose, `hint` what to do."""

    def __init__(self, link: str, why: str) -> None:
        super().__init__(errno.EPERM, f"{link} is a link {why}")
        self.link = link
        """The path of the link, as it was walked."""
        self.hint = (
            f"Write a path without this link, put a folder in its place, or, if it is right, "
            f"make it yourself as root: chown -h root {link}"
        )


def open_trusted_folder(path: str) -> int:
    """Open a folder for reading; links on the way, the last component included, must be of root or of this user.

    Raises `UntrustedPath` for other links, else the `OSError` of the component that cannot be opened, with the path up
    to there as its `filename`.
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
    """Open the folder that a file or folder is in, or would be made in, by `open_trusted_place`; give its name, too.

    The name itself is not looked at: use it with O_NOFOLLOW. Raises as `open_trusted_place`.
    """
    parent, _, name = path.rstrip("/").rpartition("/")
    if name in {"", ".", ".."}:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    above = parent or ("/" if path.startswith("/") else ".")
    return open_trusted_place(above), os.fsencode(name)


def why_no_place(path: str) -> str:
    """Say why no file can be put at a path; empty if one can, as far as can be told. Nothing is made."""
    try:
        folder, name = open_trusted_parent(path)
    except UntrustedPath as error:
        return f"{error.strerror}. {error.hint}"
    except OSError as error:
        return f"{error.filename or path} cannot be opened: {error.strerror}; make this folder, or write another path"
    try:
        if os.fstatvfs(folder).f_flag & os.ST_RDONLY:
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
    """Open a folder as O_PATH, for which no right to list it is needed: good for `dir_fd`, not for listing or syncing.

    Raises as `open_trusted_folder`.
    """
    if not path:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return Walk(path).end()


class Walk:
    """A way from component to component, each opened by a descriptor of the folder above it."""

    to_file = False
    """Whether the last component may be no folder."""

    def __init__(self, path: str) -> None:
        """Nothing is opened yet but the root or the working directory."""
        self._names = _components(path)
        """Names that are still to be walked, the next one last."""
        self._links = 0
        self._shown = "/" if path.startswith("/") else ""
        """The path walked so far, for messages."""
        self._at = os.open("/" if path.startswith("/") else ".", _STEP)

    def end(self) -> int:
        """Walk to the end and give the descriptor of what is there. Raises as `open_trusted_place`."""
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
        """Look at what was opened, which is shown as `shown`; nothing is asked of it here."""

    def pass_link(self, link: os.stat_result, shown: str) -> None:
        """Look at a link before it is followed, in the folder `_at`. Raises `UntrustedPath` where it is not."""
        if why := _why_untrusted(link, os.fstat(self._at)):
            raise UntrustedPath(shown, why)

    def _open_component(self, name: str, shown: str) -> int | None:
        """Open the folder `name`; None where it was a link, whose own components are to be walked now."""
        try:
            return os.open(name, _STEP, dir_fd=self._at)
        except NotADirectoryError:
            thing = os.open(name, _THING, dir_fd=self._at)
        status = os.fstat(thing)
        if stat.S_ISDIR(status.st_mode):
            return thing  # made between the two calls
        try:
            if not stat.S_ISLNK(status.st_mode):
                if self.to_file and not self._names:
                    return os.dup(thing)
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), shown)
            self._follow(thing, status, shown)
        finally:
            os.close(thing)
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
    """Say why a link is not followed; empty if it is."""
    user = os.geteuid()
    if link.st_uid not in {0, user}:
        followed = f"root and of user {user}" if user else "root"
        return f"of user {link.st_uid}, and only links of {followed} are followed"
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        return "in a folder that everybody may write to, where anybody may exchange it"
    return ""


def make_folders(path: str, sources: Sequence[str], mirrors: Sequence[str]) -> int:
    """Open a folder as a place for `dir_fd`; what is missing of its path is made, for us alone.

    Nothing is made that is, or lies in or above, a mirror, or is or lies above a source: a disk that is not mounted
    must not seem to exist. In a source, such as a home folder, only if it is not empty. Raises `OSError`.
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
    """Refuse to make one folder; raises PermissionError."""
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
