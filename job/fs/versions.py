"""Move entries that left the source, with their contents, to the versions folder of the mirror (invariant 4).

`.truecopy`, `versions` and each folder created there belong to this user and are closed to others.
"""

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import chain, count

from job.core.entry import STATE_FOLDER, FileId, printable
from job.fs.dircursor import closing_fd, open_folder, single
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
        self, names: Sequence[bytes], folder: int, above: bytes, moment: bytes
    ) -> tuple[dict[bytes, bytes], OSError | None]:
        """Move names of an open folder, whose path is `above`, to the versions folder of `moment`, a timestamp.

        Returns the new path of each below the root, and the first error of a failed move. Both folders are synced.
        Raises `OSError` if nothing can be kept.
        """
        moved: dict[bytes, bytes] = {}
        failed: dict[bytes, OSError] = {}
        for stamp in chain([moment], (b"%s-%d" % (moment, number) for number in count(2))):
            with ExitStack() as stack:
                place = self._open_folder(stack, stamp, above)
                if place is None:
                    continue
                for name in [each for each in names if each not in moved and each not in failed]:
                    if _exists(name, place):
                        continue
                    try:
                        os.rename(single(name), name, src_dir_fd=folder, dst_dir_fd=place)
                    except OSError as error:
                        failed[name] = error
                        continue
                    moved[name] = b"/".join((STATE_FOLDER, VERSIONS, stamp, *([above] if above else []), name))
                fsync_folder(place)
            if len(moved) + len(failed) == len(names):
                fsync_folder(folder)
                return moved, next(iter(failed.values()), None)
        raise AssertionError

    def _open_folder(self, stack: ExitStack, stamp: bytes, above: bytes) -> int | None:
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
                place = _open_or_create(part, place)
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


def _state_folder_moved(mirror: int) -> OSError:
    there = describe_entry(STATE_FOLDER, mirror)
    name = printable(STATE_FOLDER)
    return OSError(
        errno.ESTALE,
        f"{name} of the mirror was moved or exchanged since the cycle began (there is now {there}), so that nothing "
        f"can be kept in it: move it back to {name}, and look who may write to the mirror's root",
    )


def _open_or_create(name: bytes, parent: int) -> int:
    """Open an own folder, creating it if needed. Raises `ForeignOwnerError` or another `OSError`."""
    with suppress(FileExistsError):
        os.mkdir(single(name), _PRIVATE, dir_fd=parent)
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


def _exists(name: bytes, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
