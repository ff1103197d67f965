"""Move or link entries, with their contents, to the versions folder of the mirror (invariant 4).

`.truecopy`, `versions` and each folder created there belong to this user and are closed to others.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import count

from job.core.entry import STATE_FOLDER, FileId, printable
from job.core.versions import Moment, moment_of
from job.fs.dircursor import DirCursor, closing_fd, open_folder, single
from job.fs.large_dir import has_name
from job.fs.own_files import ForeignOwnerError, describe_entry, fsync_folder, open_own_folder

VERSIONS = b"versions"
_PRIVATE = 0o700
_CLOSED = 0o077


class NameTakenError(NotADirectoryError):
    """A non-folder has the name of a folder of Truecopy."""

    def __init__(self, name: bytes, parent: int) -> None:
        what = describe_entry(name, parent)
        shown = printable(name)
        super().__init__(
            errno.ENOTDIR,
            f"Truecopy keeps older contents in {printable(STATE_FOLDER)}/{printable(VERSIONS)} of the mirror, "
            f"but {shown} there is {what}, not a folder: move it away",
        )

    def __str__(self) -> str:
        """Return the message without errno."""
        return self.strerror or ""


def remove_empty(name: bytes, folder: int) -> bool:
    """Remove a folder if it is empty; False if it is not. Raises `OSError`."""
    try:
        os.rmdir(single(name), dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            return False
        raise
    return True


class VersionsFolder:
    """The `.truecopy` folder of an open mirror, which keeps removed entries."""

    def __init__(self, mirror: int, known: FileId | None) -> None:
        """`known` is the identity of the expected folder; None accepts any own folder or creates one."""
        self._mirror = mirror
        self._expected = known

    def retire(
        self, names: Sequence[bytes], folder: int, above: bytes, moment: Moment
    ) -> tuple[dict[bytes, bytes], OSError | None]:
        """Move names of an open folder, whose path is `above`, to the versions folder of `moment`, a timestamp.

        Returns the new path of each below the root, and the first error of a failed move. Both folders are synced.
        Raises `OSError` if nothing can be kept.
        """
        moved: dict[bytes, bytes] = {}
        failed: dict[bytes, OSError] = {}
        for stamp in (each.name for each in _same_second(moment)):
            with ExitStack() as stack:
                place = self._open_folder(stack, stamp, above)
                if place is None:
                    continue
                for name in [each for each in names if each not in moved and each not in failed]:
                    if has_name(place, name):
                        continue
                    try:
                        os.rename(single(name), name, src_dir_fd=folder, dst_dir_fd=place)
                    except OSError as error:
                        failed[name] = error
                        continue
                    moved[name] = _version_path(stamp, above, name)
                fsync_folder(place)
            if len(moved) + len(failed) == len(names):
                fsync_folder(folder)
                return moved, next(iter(failed.values()), None)
        raise AssertionError

    def link(
        self, names: Sequence[bytes], folder: int, above: bytes, moment: Moment, *, synced: bool
    ) -> tuple[dict[bytes, bytes], dict[bytes, OSError]]:
        """Link non-folders of an open folder, as `VersionLinks.link` does, in all folders of the moment's second."""
        linked: dict[bytes, bytes] = {}
        failed: dict[bytes, OSError] = {}
        left = list(names)
        for stamp in (each.name for each in _same_second(moment)):
            with ExitStack() as stack:
                place = self._open_folder(stack, stamp, above, synced=synced)
                if place is None:
                    continue
                done, left = _link_all(left, folder, place, failed)
                linked |= {name: _version_path(stamp, above, name) for name in done}
                if synced:
                    fsync_folder(place)
            if not left:
                return linked, failed
        raise AssertionError

    def add(self, name: bytes, above: bytes, moment: Moment, make: Callable[[int], None], *, synced: bool) -> bytes:
        """Have `make` make a new entry in an open folder of the moment's second; returns its path below the root.

        Raises `OSError`.
        """
        for stamp in (each.name for each in _same_second(moment)):
            with ExitStack() as stack:
                place = self._open_folder(stack, stamp, above, synced=synced)
                if place is None or has_name(place, name):
                    continue
                make(place)
                if synced:
                    fsync_folder(place)
                return _version_path(stamp, above, name)
        raise AssertionError

    def free_place(self, name: bytes, above: bytes, moment: Moment, *, synced: bool) -> bytes:
        """Return a path below the root that a version of the moment's second can be moved to, in a folder that is made.

        Raises `OSError`.
        """
        for stamp in (each.name for each in _same_second(moment)):
            with ExitStack() as stack:
                place = self._open_folder(stack, stamp, above, synced=synced)
                if place is not None and not has_name(place, name):
                    return _version_path(stamp, above, name)
        raise AssertionError

    def open_moment(self, moment: Moment, *, synced: bool) -> tuple[int, Moment]:
        """Open the first usable folder of the moment's second, creating it if needed; returns its moment, too.

        Raises `OSError`.
        """
        for each in _same_second(moment):
            with ExitStack() as stack:
                place = self._open_folder(stack, each.name, b"", synced=synced)
                if place is not None:
                    return os.dup(place), each
        raise AssertionError

    def unused(self, moment: Moment) -> Moment:
        """Return the first moment of the same second that has no folder yet, so that no cycle adds to another's.

        Raises `OSError`. Nothing is created.
        """
        with ExitStack() as stack:
            try:
                place = stack.enter_context(closing_fd(open_folder(STATE_FOLDER, self._mirror)))
                place = stack.enter_context(closing_fd(open_folder(VERSIONS, place)))
            except FileNotFoundError:
                return moment
            return next(each for each in _same_second(moment) if not has_name(place, each.name))

    def _open_folder(self, stack: ExitStack, stamp: bytes, above: bytes, *, synced: bool = True) -> int | None:
        """Open the folder for one timestamp; None if another user's folder or a non-folder is in its place."""
        try:
            place = stack.enter_context(closing_fd(self._open_state_folder()))
            place = stack.enter_context(closing_fd(_open_or_create(VERSIONS, place)))
        except ForeignOwnerError as error:
            folders = f"{printable(STATE_FOLDER)}/{printable(VERSIONS)} of the mirror"
            why = f"one of them is not ours ({error.strerror}): move it away, and look who made it"
            raise PermissionError(errno.EPERM, f"nothing can be kept in {folders}, since {why}") from error
        last = stack.enter_context(ExitStack())
        for part in (stamp, *(above.split(b"/") if above else ())):
            try:
                place = _open_or_create(part, place, synced=synced)
            except ForeignOwnerError:
                return None
            except NameTakenError:
                if part is stamp:
                    raise
                return None
            last.close()  # a path may have more folders than the process may have descriptors
            last.callback(os.close, place)
        return place

    def _open_state_folder(self) -> int:
        if self._expected is None:
            return _open_or_create(STATE_FOLDER, self._mirror)
        try:
            folder = open_own_folder(STATE_FOLDER, self._mirror)
        except OSError:
            raise _state_folder_moved(self._mirror) from None
        seen = os.fstat(folder)
        if (seen.st_dev, seen.st_ino) == self._expected:
            _close_to_others(folder, seen)
            return folder
        os.close(folder)
        raise _state_folder_moved(self._mirror)


class VersionLinks:
    """Links entries of one batch to the version folder of its cycle. Use it with `contextlib.closing`.

    Folders are visited in the order of the tree, so most of each path is open already.
    """

    def __init__(self, versions: VersionsFolder, moment: Moment, *, synced: bool) -> None:
        """Create the folder of the moment; links survive a power cut if they are `synced`, else by a later `syncfs`.

        Raises `OSError` if nothing can be kept.
        """
        self._versions, self._synced = versions, synced
        self._root, self._moment = versions.open_moment(moment, synced=synced)
        self._cursor = DirCursor(self._root)

    def close(self) -> None:
        """Close what was opened."""
        self._cursor.close()
        os.close(self._root)

    def link(
        self, names: Sequence[bytes], folder: int, above: bytes
    ) -> tuple[dict[bytes, bytes], dict[bytes, OSError]]:
        """Link non-folders of an open folder, whose path is `above`.

        Returns the new path of each below the mirror's root, and the errors of those that could not be linked; a name
        that does not exist is in neither. Raises `OSError` if nothing can be kept.
        """
        failed: dict[bytes, OSError] = {}
        try:
            place = self._goto(above)
        except (NotADirectoryError, PermissionError):
            return self._versions.link(names, folder, above, self._moment, synced=self._synced)
        done, taken = _link_all(names, folder, place, failed)
        if self._synced:
            fsync_folder(place)
        linked = {name: _version_path(self._moment.name, above, name) for name in done}
        if taken:
            more, errors = self._versions.link(taken, folder, above, self._moment, synced=self._synced)
            return linked | more, failed | errors
        return linked, failed

    def _goto(self, above: bytes) -> int:
        """Move to a folder and return its descriptor; missing ones are made. Raises `OSError`."""
        path, missing = above, list[bytes]()
        while (place := self._existing(path)) is None:
            path, _, name = path.rpartition(b"/")
            missing.append(name)
        while missing:
            name = missing.pop()
            with suppress(FileExistsError):  # another worker made it
                os.mkdir(single(name), _PRIVATE, dir_fd=place)
            if self._synced:
                fsync_folder(place)
            path = path + b"/" + name if path else name
            place = self._cursor.goto(path)
        return place

    def _existing(self, path: bytes) -> int | None:
        try:
            return self._cursor.goto(path)
        except FileNotFoundError:
            return None


def _state_folder_moved(mirror: int) -> OSError:
    there = describe_entry(STATE_FOLDER, mirror)
    name = printable(STATE_FOLDER)
    return OSError(
        errno.ESTALE,
        f"{name} of the mirror was moved or exchanged since the cycle began (there is now {there}), so that nothing "
        f"can be kept in it: move it back to {name}, and look who may write to the mirror's root",
    )


def _same_second(moment: Moment) -> Iterator[Moment]:
    return (moment._replace(number=number) for number in count(moment.number))


def _version_path(stamp: bytes, above: bytes, name: bytes) -> bytes:
    return b"/".join((STATE_FOLDER, VERSIONS, stamp, *([above] if above else []), name))


def place_of(path: bytes) -> tuple[Moment, bytes]:
    """Return the moment of a version at a path below the mirror's root, and the path that it had in the mirror.

    Raises `ValueError` for a path that is not within the folder of a moment.
    """
    state, versions, stamp, *rest = path.split(b"/")
    moment = moment_of(stamp)
    if (state, versions) != (STATE_FOLDER, VERSIONS) or moment is None:
        raise ValueError(f"not a path of a version: {path!r}")
    return moment, b"/".join(rest)


def folder_of(moment: Moment, above: bytes) -> bytes:
    """Return the path below the mirror's root of the folder with a moment's versions of the entries in `above`."""
    return b"/".join((STATE_FOLDER, VERSIONS, moment.name, *([above] if above else [])))


def _link_all(
    names: Sequence[bytes], folder: int, place: int, failed: dict[bytes, OSError]
) -> tuple[list[bytes], list[bytes]]:
    """Link names of an open folder to an open one; returns those that were linked, and those that are taken there."""
    linked: list[bytes] = []
    taken: list[bytes] = []
    for name in names:
        try:
            os.link(single(name), name, src_dir_fd=folder, dst_dir_fd=place, follow_symlinks=False)
        except FileExistsError:
            taken.append(name)
        except FileNotFoundError:
            continue
        except OSError as error:
            failed[name] = error
        else:
            linked.append(name)
    return linked, taken


def _open_or_create(name: bytes, parent: int, *, synced: bool = True) -> int:
    """Open an own folder, creating it if needed. Raises `ForeignOwnerError` or another `OSError`."""
    with suppress(FileExistsError):
        os.mkdir(single(name), _PRIVATE, dir_fd=parent)
        if synced:
            fsync_folder(parent)
    try:
        folder = open_folder(name, parent)
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            raise NameTakenError(name, parent) from error
        raise
    seen = os.fstat(folder)
    if seen.st_uid not in {os.geteuid(), 0}:
        os.close(folder)
        raise ForeignOwnerError(seen.st_uid)
    _close_to_others(folder, seen)
    return folder


def _close_to_others(folder: int, seen: os.stat_result) -> None:
    if stat.S_IMODE(seen.st_mode) & _CLOSED:
        with suppress(OSError):  # without modes, the mount sets it
            os.fchmod(folder, _PRIVATE)
