"""Who may read which content below a root: computed from modes, owners and ACLs on the way, and tried for real.

Contents are told apart by their bytes, not by their names: a temp, a version or a copy under a wrong name counts like
any other file. Needs root, which alone may look everywhere; root is never among the people.
"""

import hashlib
import os
import stat
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

_ACCESS = "system.posix_acl_access"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 1, 2, 4, 8, 16, 32
_READ, _ENTER = 4, 1
STRANGER_UID = 64_777
"""A user who owns nothing."""
_NO_GROUP = 64_778
"""The group of somebody who is in no group that matters: every process has one."""

Digest: TypeAlias = bytes
"""Of a content: SHA-256."""


class Person(NamedTuple):
    """A user with all groups that the user is a member of."""

    uid: int
    gids: frozenset[int] = frozenset()

    def __str__(self) -> str:
        """Give user and groups as `id` writes them."""
        return f"{self.uid}({','.join(map(str, sorted(self.gids)))})"


class Permissions(NamedTuple):
    """What decides about access to one file or folder."""

    uid: int
    gid: int
    mode: int
    acl: tuple[tuple[int, int, int], ...] = ()
    """Tag, rights and id of each entry; empty without an extended ACL."""


class File(NamedTuple):
    """A regular file below a root."""

    path: bytes
    digest: Digest
    size: int
    readers: frozenset[Person]


class Exposed(NamedTuple):
    """A content that somebody can read who must not."""

    path: bytes
    person: Person
    why: str


def permissions_of(descriptor: int) -> Permissions:
    """Read what decides about access to an open file or folder."""
    seen = os.fstat(descriptor)
    try:
        value = os.getxattr(descriptor, _ACCESS)
    except OSError:
        value = b""
    return Permissions(seen.st_uid, seen.st_gid, seen.st_mode, tuple(struct.iter_unpack("<HHI", value[4:])))


def may(person: Person, right: int, of: Permissions) -> bool:
    """Tell whether a person has a right (4 read, 2 write, 1 enter) to something; not by the powers of root.

    As acl(5) has it, but for one thing: Linux looks at an ACL only if its mask, which is the group bits of the mode,
    has any right. Without one the users and groups that it names are treated as all others are.
    """
    if person.uid == of.uid:
        return bool(of.mode >> 6 & right)
    if of.acl and of.mode & stat.S_IRWXG:
        return _may_by_acl(person, right, of)
    return bool((of.mode >> 3 if of.gid in person.gids else of.mode) & right)


def _may_by_acl(person: Person, right: int, of: Permissions) -> bool:
    mask = next((rights for tag, rights, _ in of.acl if tag == _MASK), 7)
    for tag, rights, who in of.acl:
        if tag == _USER and who == person.uid:
            return bool(rights & mask & right)
    groups = [
        rights & mask
        for tag, rights, who in of.acl
        if (tag == _GROUP_OBJ and of.gid in person.gids) or (tag == _GROUP and who in person.gids)
    ]
    if groups:
        return any(rights & right for rights in groups)
    return any(rights & right for tag, rights, _ in of.acl if tag == _OTHER)


def files_below(root: Path, people: Iterable[Person], *, enter: bool = True) -> Iterator[File]:
    """Give every regular file below a root with the people who can read it; whoever gets to the root begins there.

    Without `enter`, the permissions of the root itself do not count. What is removed meanwhile is passed over.
    """
    folder = os.open(root, _FOLDER)
    try:
        yield from _below(folder, b"", frozenset(people), enter=enter)
    finally:
        os.close(folder)


def _below(folder: int, path: bytes, people: frozenset[Person], *, enter: bool = True) -> Iterator[File]:
    if enter:
        here = permissions_of(folder)
        people = frozenset(each for each in people if may(each, _ENTER, here))
    for name in sorted(map(os.fsencode, os.listdir(folder))):
        below = path + b"/" + name if path else name
        try:
            kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if not (stat.S_ISDIR(kind) or stat.S_ISREG(kind)):
                continue
            opened = os.open(name, _FOLDER if stat.S_ISDIR(kind) else _FILE, dir_fd=folder)
        except FileNotFoundError:
            continue
        try:
            yield from _below(opened, below, people) if stat.S_ISDIR(kind) else [_file(opened, below, people)]
        finally:
            os.close(opened)


def _file(descriptor: int, path: bytes, people: frozenset[Person]) -> File:
    of = permissions_of(descriptor)
    digest, size = hashlib.sha256(), 0
    while chunk := os.read(descriptor, 1 << 20):
        digest.update(chunk)
        size += len(chunk)
    return File(path, digest.digest(), size, frozenset(each for each in people if may(each, _READ, of)))


def people_of(*roots: Path) -> frozenset[Person]:
    """Give everybody for whom it can make a difference: each owner, each member of a group, those named by ACLs.

    Members are strangers otherwise; one more stranger is in no group, and every owner is also in each group once.
    """
    uids, gids = {STRANGER_UID}, set[int]()
    for root in roots:
        for of in _all_permissions(root):
            uids.add(of.uid)
            gids.add(of.gid)
            uids.update(who for tag, _, who in of.acl if tag == _USER)
            gids.update(who for tag, _, who in of.acl if tag == _GROUP)
    uids.discard(0)
    return frozenset(Person(uid, frozenset(some)) for uid in uids for some in [(), *((gid,) for gid in gids)])


def _all_permissions(root: Path) -> Iterator[Permissions]:
    for folder, _, names in os.walk(os.fsencode(root)):
        for path in (folder, *(folder + b"/" + name for name in names)):
            try:
                if not stat.S_ISREG(kind := os.lstat(path).st_mode) and not stat.S_ISDIR(kind):
                    continue
                descriptor = os.open(path, _FILE)
            except FileNotFoundError:
                continue
            try:
                yield permissions_of(descriptor)
            finally:
                os.close(descriptor)


def readers_of(root: Path, people: Iterable[Person]) -> dict[Digest, frozenset[Person]]:
    """Give the people who can read each content below a root, by whatever name."""
    found: dict[Digest, frozenset[Person]] = {}
    for file in files_below(root, people):
        found[file.digest] = found.get(file.digest, frozenset()) | file.readers
    return found


def together(*some: Mapping[Digest, frozenset[Person]]) -> dict[Digest, frozenset[Person]]:
    """Give the people who could read each content at one time or another."""
    return {digest: frozenset().union(*(each.get(digest, ()) for each in some)) for digest in set().union(*some)}


def exposed(
    root: Path, allowed: Mapping[Digest, frozenset[Person]], people: Iterable[Person], *, tried: int = 0
) -> list[Exposed]:
    """Give what can be read below a root by people who are not `allowed` to know it.

    Nobody may read a content that is not among those allowed, such as half of one; empty files tell nothing. So many
    files of each person are `tried` for real, those that must not be readable first: the computation itself is held
    against the kernel.
    """
    people = frozenset(people)
    files = [file for file in files_below(root, people) if file.size]
    if tried:
        _insist_on_the_kernel(root, files, people, allowed, tried)
    return [
        Exposed(file.path, person, "content unknown in the source" if file.digest not in allowed else "not allowed to")
        for file in files
        for person in sorted(file.readers - allowed.get(file.digest, frozenset()))
    ]


def _insist_on_the_kernel(
    root: Path,
    files: list[File],
    people: frozenset[Person],
    allowed: Mapping[Digest, frozenset[Person]],
    tried: int,
) -> None:
    some: dict[Person, list[bytes]] = {}
    for person in people:
        secret = [file.path for file in files if person not in allowed.get(file.digest, ())]
        others = [file.path for file in files if person in allowed.get(file.digest, ())]
        some[person] = [*secret[:tried], *others[:tried]]
    there = {path for paths in some.values() for path in paths if (root / os.fsdecode(path)).exists()}
    read = really_read(root, some)
    for person in sorted(people):
        computed = {file.path for file in files if file.path in some[person] and person in file.readers}
        assert read[person] & there == computed & there, (str(person), read[person] ^ computed)


def really_read(root: Path, paths: Mapping[Person, Collection[bytes]]) -> dict[Person, set[bytes]]:
    """Give those of the paths below a root that each person can read, found out by a process that becomes them in turn.

    It begins in the open root, so that nothing above it counts.
    """
    theirs, ours = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(theirs)
            _try_all(root, paths, ours)
            status = 0
        finally:
            os._exit(status)
    os.close(ours)
    with open(theirs, "rb") as answers:
        told = iter(answers.read())
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    read = {person: {path for path in some if next(told)} for person, some in paths.items()}
    assert not [*told]
    return read


def _try_all(root: Path, paths: Mapping[Person, Collection[bytes]], answers: int) -> None:
    """Try to open each path as each person. The real user stays root, so that the next person can be become."""
    folder = os.open(root, _FOLDER)
    told = bytearray()
    for person, some in paths.items():
        os.setgroups(sorted(person.gids))
        os.setegid(min(person.gids, default=_NO_GROUP))
        os.seteuid(person.uid)
        told += bytes(_opens(path, folder) for path in some)
        os.seteuid(0)
        os.setegid(0)
    while told:
        del told[: os.write(answers, told)]


def _opens(path: bytes, folder: int) -> bool:
    try:
        descriptor = os.open(path, _FILE, dir_fd=folder)
    except OSError:
        return False
    os.close(descriptor)
    return True
