"""A file system in memory, of whatever nature."""

import errno
import itertools
import os
import stat
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.fidelity.nature import Nature, Node

_NOW_NS = (1 << 30) - 1
_OMIT_NS = (1 << 30) - 2
"""What the times of utimensat(2) are that stand for now and for no change."""

_BLOCK = 4096
_LONGEST = 255
"""Bytes of a name, as it is kept; the kernel itself can hand on no longer ones."""


class Storage:
    """The operations that `mfusepy` calls, by its names."""

    use_ns = True

    def __init__(self, nature: Nature) -> None:
        self._nature = nature
        self._inodes = itertools.count(2)
        self._root = Node(1, stat.S_IFDIR | 0o755, nlink=2)
        self._touch(self._root)
        for name, number in nature.refuse.items():
            setattr(self, name, _refuser(number))
        for name in nature.ignore:
            setattr(self, name, lambda *_: 0)

    # Names -----------------------------------------------------------------------------------------------------------

    def _at(self, path: str) -> Node:
        node = self._root
        for name in filter(None, path.split("/")):
            found = node.children.get(self._nature.key(name))
            if found is None:
                raise OSError(errno.ENOENT, path)
            node = found[1]
        return node

    def _place(self, path: str) -> tuple[Node, str]:
        parent, _, name = path.rpartition("/")
        if len(os.fsencode(self._nature.kept(name))) > _LONGEST:
            raise OSError(errno.ENAMETOOLONG, path)
        return self._at(parent), name

    def _add(self, path: str, node: Node) -> None:
        folder, name = self._place(path)
        if self._nature.key(name) in folder.children:
            raise OSError(errno.EEXIST, path)
        folder.children[self._nature.key(name)] = self._nature.kept(name), node
        self._touch(folder)

    def _take(self, path: str) -> Node:
        folder, name = self._place(path)
        _, node = folder.children.pop(self._nature.key(name))
        self._touch(folder)
        return node

    def _touch(self, node: Node) -> None:
        now = time.time_ns()
        node.mtime_ns, node.ctime_ns = now - now % self._nature.grain_ns, now

    # Looking ---------------------------------------------------------------------------------------------------------

    def getattr(self, path: str, _: object = None) -> dict[str, int]:
        node = self._at(path)
        size = len(os.fsencode(node.target)) if stat.S_ISLNK(node.mode) else len(node.data)
        return {
            "st_ino": node.inode,
            "st_mode": node.mode,
            "st_nlink": node.nlink,
            "st_uid": node.uid,
            "st_gid": node.gid,
            "st_rdev": node.device,
            "st_size": size,
            "st_blocks": -(-size // _BLOCK) * 8,
            "st_blksize": _BLOCK,
            "st_atime": node.atime_ns,
            "st_mtime": node.mtime_ns,
            "st_ctime": node.mtime_ns if self._nature.ctime_is_mtime else node.ctime_ns,
        }

    def readdir(self, path: str, _: int) -> Iterable[tuple[str, dict[str, int], int]]:
        folder = self._at(path)
        for name, node in ((".", folder), ("..", self._root), *folder.children.values()):
            # The C library leaves out what has no inode number.
            yield name, {"st_mode": node.mode, "st_ino": node.inode}, 0

    def readlink(self, path: str) -> str:
        return self._at(path).target

    def statfs(self, _: str) -> dict[str, int]:
        free = (1 << 30) // _BLOCK
        return {"f_bsize": _BLOCK, "f_frsize": _BLOCK, "f_blocks": free, "f_bfree": free, "f_bavail": free}

    # Making ----------------------------------------------------------------------------------------------------------

    def _new(self, mode: int) -> Node:
        node = Node(next(self._inodes), mode, uid=os.geteuid(), gid=os.getegid())
        self._touch(node)
        return node

    def create(self, path: str, mode: int) -> int:
        self._add(path, self._new(stat.S_IFREG | stat.S_IMODE(mode)))
        return 0

    def mknod(self, path: str, mode: int, device: int) -> int:
        node = self._new(mode)
        node.device = device
        self._add(path, node)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._add(path, self._new(stat.S_IFDIR | stat.S_IMODE(mode)))
        return 0

    def symlink(self, path: str, target: str) -> int:
        node = self._new(stat.S_IFLNK | 0o777)
        node.target = target
        self._add(path, node)
        return 0

    def link(self, path: str, existing: str) -> int:
        node = self._at(existing)
        self._add(path, node)
        node.nlink += 1
        node.ctime_ns = time.time_ns()
        return 0

    def unlink(self, path: str) -> int:
        node = self._take(path)
        node.nlink -= 1
        node.ctime_ns = time.time_ns()
        return 0

    def rmdir(self, path: str) -> int:
        if self._at(path).children:
            raise OSError(errno.ENOTEMPTY, path)
        self._take(path)
        return 0

    def rename(self, old: str, new: str) -> int:
        node = self._at(old)
        folder, name = self._place(new)
        kept, there = folder.children.get(self._nature.key(name), (self._nature.kept(name), None))
        if there is not None and there is not node and stat.S_ISDIR(there.mode):
            if not stat.S_ISDIR(node.mode):
                raise OSError(errno.EISDIR, new)
            if there.children:
                raise OSError(errno.ENOTEMPTY, new)
        self._take(old)
        # What is replaced keeps its name as it was written first; only a file that gets a new name gets its case.
        folder.children[self._nature.key(name)] = (self._nature.kept(name) if there is node else kept), node
        self._touch(folder)
        node.ctime_ns = time.time_ns()
        return 0

    # Contents --------------------------------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> int:
        self._at(path)
        if flags & os.O_TRUNC:
            self.truncate(path, 0)
        return 0

    def read(self, path: str, size: int, offset: int, _: int) -> bytes:
        return bytes(self._at(path).data[offset : offset + size])

    def write(self, path: str, content: bytes, offset: int, _: int) -> int:
        node = self._at(path)
        self._resize(node, max(len(node.data), offset + len(content)))
        node.data[offset : offset + len(content)] = content
        self._touch(node)
        return len(content)

    def truncate(self, path: str, length: int, _: object = None) -> int:
        node = self._at(path)
        self._resize(node, length)
        self._touch(node)
        return 0

    def _resize(self, node: Node, length: int) -> None:
        if length > self._nature.largest:
            raise OSError(errno.EFBIG, "too large")
        del node.data[length:]
        node.data.extend(bytes(length - len(node.data)))

    # Metadata --------------------------------------------------------------------------------------------------------

    def chmod(self, path: str, mode: int) -> int:
        node = self._at(path)
        node.mode, node.ctime_ns = stat.S_IFMT(node.mode) | stat.S_IMODE(mode), time.time_ns()
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        node = self._at(path)
        node.uid, node.gid = (node.uid if uid < 0 else uid), (node.gid if gid < 0 else gid)
        node.ctime_ns = time.time_ns()
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        node, now = self._at(path), time.time_ns()
        atime, mtime = (now if each == _NOW_NS else each for each in times or (now, now))
        if atime != _OMIT_NS:
            node.atime_ns = atime
        if mtime != _OMIT_NS:
            node.mtime_ns = mtime - mtime % self._nature.grain_ns
        node.ctime_ns = now
        return 0

    def setxattr(self, path: str, name: str, value: bytes, _: int) -> int:
        node = self._at(path)
        if not name.startswith("user."):
            raise OSError(errno.ENOTSUP, name)
        node.xattrs[name], node.ctime_ns = value, time.time_ns()
        return 0

    def getxattr(self, path: str, name: str) -> bytes:
        try:
            return self._at(path).xattrs[name]
        except KeyError:
            raise OSError(errno.ENODATA, name) from None

    def listxattr(self, path: str) -> list[str]:
        return list(self._at(path).xattrs)

    def removexattr(self, path: str, name: str) -> int:
        if self._at(path).xattrs.pop(name, None) is None:
            raise OSError(errno.ENODATA, name)
        return 0


def _refuser(number: int) -> Callable[..., Any]:
    def refuse(*_: object) -> Any:
        raise OSError(number, os.strerror(number))

    return refuse
