"""Probe the capabilities of a mirror's file system in a temporary folder there, and store the result.

A probe takes at most a megabyte, for a hole that the file system fills. The result is valid while the file system, its
mount options, the user and the user's capabilities stay the same.
"""

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from job.core.acl import pack_acl
from job.core.entry import TEMP_PREFIX
from job.core.file_systems import Capabilities, decode_capabilities
from job.core.stored_values import UNUSABLE
from job.fs import mounts
from job.fs.dircursor import closing_fd, open_folder, open_name, path_handle
from job.fs.large_dir import names_in
from job.fs.own_files import create, fsync_folder, replace_file, syncfs_is_reliable, write_all
from job.fs.rights import metadata_capabilities

FILE_NAME = b"mirror.json"
"""The stored capabilities, in the state folder."""
_FORMAT = 4
_FOLDER = TEMP_PREFIX + b"probe"
_TRIED_CHARACTERS = '"*:<>?|\\\x01\x1f\x7f'
"""Characters that some file systems refuse."""
_FINE_NS = 1_234_567_891_123_456_789
"""An odd second with nine digits of nanoseconds."""
_COMPOSED, _DECOMPOSED = b"na\xc3\xafve", b"nai\xcc\x88ve"
"""One word in NFC and NFD."""
_GRAINS_NS = (1, 100, 1_000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000)
_SIZES = (1 << 31, 1 << 32, 1 << 40)
_HOLE_BYTES = 1 << 20
_OTHER_USER = 12_345
_NOBODY_ID = 0xFFFFFFFF
_ACL = pack_acl([(1, 6, _NOBODY_ID), (2, 4, _OTHER_USER), (4, 4, _NOBODY_ID), (16, 4, _NOBODY_ID), (32, 0, _NOBODY_ID)])
"""The ACL of a file that one more user may read."""
_MOST_BYTES = 1 << 20
_LINK_SECONDS = 1_234_567_890
_TARGET_SECONDS = 1_000_000_000
"""Even numbers, which FAT can store."""
_FOLLOWED = {errno.ENOENT, errno.ELOOP, errno.ENOTDIR}
"""Errors of a missing target, which show that a symlink was followed."""


def load_capabilities(folder: int, state: int, point: bytes = b"", *, to_write: bool = True) -> Capabilities | None:
    """Return the stored capabilities of an open folder's file system; None if there are none or they are outdated.

    `point` is its mount point relative to the mirror's root. Without `to_write` the process capabilities are not
    compared, since the service may have others than this process.
    """
    try:
        stored, key = _stored(state)[os.fsdecode(point)], _key(folder)
        compared = len(key) if to_write else -1
        return decode_capabilities(stored["capabilities"]) if stored["key"][:compared] == key[:compared] else None
    except (OSError, *UNUSABLE):
        return None


def save_capabilities(found: Capabilities, folder: int, state: int, point: bytes = b"") -> None:
    """Store capabilities, after syncing the removal of the probe folder. Raises `OSError`."""
    fsync_folder(folder)  # otherwise a probe folder could reappear, and only the next probe removes it
    document: dict[str, object] = {}
    with suppress(OSError, *UNUSABLE):
        document = dict(_stored(state))
    document[os.fsdecode(point)] = {"key": _key(folder), "capabilities": found._asdict()}
    replace_file(state, FILE_NAME, json.dumps(document, indent=2).encode("ascii") + b"\n")


def _stored(state: int) -> Any:  # any JSON value
    with closing_fd(open_name(FILE_NAME, state)) as descriptor:
        return json.loads(os.read(descriptor, _MOST_BYTES))


def probe(mirror: int) -> Capabilities:
    """Probe an open mirror folder. Raises `OSError` if nothing can be created in it."""
    mount = mounts.mount_of(mirror)
    kind = mount.type if mount else mounts.file_system_type(os.fstat(mirror).st_dev)
    with _probe_folder(mirror) as folder:
        forbidden = _forbidden(folder)
        with closing_fd(create(b"file", folder)) as file:
            write_all(file, b"content")
            sparse = _is_sparse(file)
            return Capabilities(
                file_system=kind,
                symlinks=_works(lambda: os.symlink("text", b"link", dir_fd=folder)),
                symlink_metadata=_keeps_symlink_metadata(folder),
                hard_links=_keeps_hard_links(folder),
                fifos=_works(lambda: os.mkfifo(b"pipe", dir_fd=folder)),
                devices=_works(lambda: os.mknod(b"device", stat.S_IFCHR | 0o600, os.makedev(1, 3), dir_fd=folder)),
                modes=_keeps_modes(file),
                xattrs=_keeps(file, "user.truecopy", b"\0odd\xff"),
                acls=_keeps(file, "system.posix_acl_access", _ACL),
                owners=_keeps_owners(file),
                sparse=sparse,
                syncfs=syncfs_is_reliable(mirror),
                largest_file=_largest(file) if sparse else 0,
                mtime_grain_ns=_grain(file),
                forbidden=forbidden,
                case_sensitive=not (_can_make(b"Case", folder) and _exists(b"cASE", folder)),
                normalises=not _can_make(_COMPOSED, folder)
                or _exists(_DECOMPOSED, folder)
                or _unlisted(_COMPOSED, folder),
                any_bytes=_can_make(b"bytes\xff", folder) and not _unlisted(b"bytes\xff", folder),
                trailing=all(_can_make(name, folder) and not _unlisted(name, folder) for name in (b"dot.", b"space ")),
            )


def _key(mirror: int) -> list[object]:
    mount = mounts.mount_of(mirror)
    system = os.fstatvfs(mirror).f_fsid
    # Some file systems have no f_fsid; then the device number is used.
    where = system or os.fstat(mirror).st_dev
    kind, options = (mount.type, mount.options) if mount else ("", "")
    return [_FORMAT, where, kind, options, os.geteuid(), metadata_capabilities()]  # capabilities last: `to_write`


@contextmanager
def _probe_folder(mirror: int) -> Iterator[int]:
    """Open a temporary folder in the mirror and remove it at the end; one that a killed run left is reused."""
    name = _FOLDER
    try:
        folder = _open_empty(name, mirror)
    except OSError:  # another user's entry, which is not removed
        name = _FOLDER + b"-" + os.urandom(4).hex().encode("ascii")
        folder = _open_empty(name, mirror)
    try:
        yield folder
    finally:
        with closing_fd(folder):
            _clear(folder)
        os.rmdir(name, dir_fd=mirror)


def _open_empty(name: bytes, mirror: int) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=mirror)
    folder = open_folder(name, mirror)
    try:
        _clear(folder)
    except OSError:
        os.close(folder)
        raise
    return folder


def _clear(folder: int) -> None:
    for name in _names(folder):
        os.unlink(name, dir_fd=folder)


def _names(folder: int) -> list[bytes]:
    return [name for some in names_in(folder) for name in some]


def _works(action: Callable[[], object]) -> bool:
    try:
        action()
    except OSError:
        return False
    return True


def _forbidden(folder: int) -> str:
    names = {each: f"a{each}b".encode() for each in _TRIED_CHARACTERS}
    made = [each for each, name in names.items() if _can_make(name, folder)]
    held = set(_names(folder))
    return "".join(each for each in _TRIED_CHARACTERS if each not in made or names[each] not in held)


def _can_make(name: bytes, folder: int) -> bool:
    return _works(lambda: os.close(create(name, folder)))


def _exists(name: bytes, folder: int) -> bool:
    return _works(lambda: os.stat(name, dir_fd=folder, follow_symlinks=False))


def _unlisted(name: bytes, folder: int) -> bool:
    """Return whether the listing lacks exactly this name, even if it can be opened."""
    return name not in _names(folder)


def _keeps_modes(file: int) -> bool:
    def keeps(mode: int) -> bool:
        return _works(lambda: os.fchmod(file, mode)) and stat.S_IMODE(os.fstat(file).st_mode) == mode

    return keeps(0o640) and keeps(0o751) and keeps(0o600)


def _keeps(file: int, name: str, value: bytes) -> bool:
    try:
        os.setxattr(file, name, value)
        return os.getxattr(file, name) == value
    except OSError:
        return False


def _keeps_hard_links(folder: int) -> bool:
    """Return whether two hard links have one inode; on sshfs and mergerfs each may have its own."""
    if not _works(lambda: os.link(b"file", b"other", src_dir_fd=folder, dst_dir_fd=folder)):
        return False
    one, other = (os.stat(name, dir_fd=folder, follow_symlinks=False) for name in (b"file", b"other"))
    return os.path.samestat(one, other) and other.st_nlink > 1


def _keeps_owners(file: int) -> bool:
    if not _works(lambda: os.fchown(file, _OTHER_USER, _OTHER_USER)):
        return False
    seen = os.fstat(file)
    return (seen.st_uid, seen.st_gid) == (_OTHER_USER, _OTHER_USER)


def _grain(file: int) -> int:
    """Return the smallest time resolution that explains a stored time."""
    with suppress(OSError):
        os.utime(file, ns=(_FINE_NS, _FINE_NS))
    kept = os.fstat(file).st_mtime_ns
    return next((grain for grain in _GRAINS_NS if abs(kept - _FINE_NS) < grain and kept % grain == 0), _GRAINS_NS[-1])


def _keeps_symlink_metadata(folder: int) -> bool:
    """Return whether a symlink keeps its own owner and times, without a risk for other files.

    A server that follows the link reaches the probe's own file, or a target that does not exist.
    """
    nowhere = b"truecopy-" + os.urandom(8).hex().encode("ascii")
    try:
        os.close(create(b"target", folder))
        os.utime(b"target", (_TARGET_SECONDS, _TARGET_SECONDS), dir_fd=folder)
        before = os.stat(b"target", dir_fd=folder)
        links = {b"to-nothing": nowhere, b"to-nothing-else": b"/" + nowhere, b"to-target": b"target"}
        for name, text in links.items():
            os.symlink(text, name, dir_fd=folder)
            if not _keeps_its_own(name, folder):
                return False
        after = os.stat(b"target", dir_fd=folder)
    except OSError:
        return True  # no symlinks, so no metadata is set on one
    return (before.st_mtime_ns, before.st_uid, before.st_gid) == (after.st_mtime_ns, after.st_uid, after.st_gid)


def _keeps_its_own(link: bytes, folder: int) -> bool:
    with path_handle(link, folder) as place:
        for uid in (os.geteuid(), _OTHER_USER):
            try:
                os.chown(place.path, uid, -1)
            except OSError as error:
                if error.errno in _FOLLOWED:
                    return False
        try:
            os.utime(place.path, (_LINK_SECONDS, _LINK_SECONDS))
        except OSError as error:
            return error.errno not in _FOLLOWED
    seen = os.stat(link, dir_fd=folder, follow_symlinks=False)
    return abs(seen.st_mtime - _LINK_SECONDS) < 2  # noqa: PLR2004  # the coarsest resolution


def _is_sparse(file: int) -> bool:
    if not _works(lambda: os.ftruncate(file, _HOLE_BYTES)):
        return False
    with suppress(OSError):
        os.fsync(file)
    return os.fstat(file).st_blocks * 512 < _HOLE_BYTES // 2


def _largest(file: int) -> int:
    """Return the maximum file size if it is small, otherwise 0; needs sparse files."""
    for size in _SIZES:
        if not _works(lambda size=size: os.ftruncate(file, size)):  # type: ignore[misc]
            return size - 1
    return 0
