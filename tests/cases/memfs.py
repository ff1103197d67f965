"""A file system in memory that speaks the kernel's FUSE protocol itself. It needs root and /dev/fuse, nothing else.

    python3 memfs.py MOUNT_POINT [NATURE...]

A nature makes it behave like a file system that users have:

once      a descriptor lists a folder only once; its second listing is empty (sshfs without its folder cache)
fat       times to two seconds, no change time of its own, no modes, owners and links (FAT, exFAT)
follow    times and owners set on a symlink go to its target, also outside (sshfs)
few       a file can have five names (ext4: 65000, Amazon EFS: 177)
dots      dots at the end of a name are dropped (the kernel's exFAT and VFAT)
fold      names that differ in case only are one name (exFAT)
noinodes  reports that none of its many file names are left (rclone mount of Debian 12)
xeio      attributes cannot be listed: an I/O error (rclone mount of Debian 12)
sshlink   a hard link works, but looks like a file of its own: another inode number, link count 1 (sshfs)
clamp=F   when the file F appears, times before 1980 become 1980 (exfat-fuse at an unmount)
log=F     a line is added to the file F for each sync that arrives

The structures are those of the kernel's include/uapi/linux/fuse.h, protocol 7.31.
"""

import contextlib
import ctypes
import errno
import os
import stat
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

SECOND = 10**9
YEAR_1980 = 315_532_800 * SECOND
MOST_NAMES = 5
TIMES = 16 | 32
OWNERS = 2 | 4


@dataclass(eq=False)
class Node:
    """A file, folder or symlink."""

    inode: int
    mode: int
    body: list[bytes] = field(default_factory=lambda: [b""])
    """The content; a list, so that two nodes can share it (`sshlink`)."""
    kids: dict[bytes, "Node"] | None = None
    uid: int = field(default_factory=os.geteuid)
    gid: int = field(default_factory=os.getegid)
    links: int = 1
    atime: int = field(default_factory=time.time_ns)
    mtime: int = field(default_factory=time.time_ns)
    ctime: int = field(default_factory=time.time_ns)

    @property
    def names(self) -> dict[bytes, "Node"]:
        """The entries of a folder."""
        if self.kids is None:
            raise OSError(errno.ENOTDIR, "")
        return self.kids

    def touch(self) -> None:
        """Note a change of the content."""
        self.mtime = self.ctime = time.time_ns()


class MemoryFileSystem:
    """The file system: one method for each kind of request."""

    def __init__(self, natures: list[str]) -> None:
        self.natures = {nature.partition("=")[0] for nature in natures}
        values = dict(nature.split("=", 1) for nature in natures if "=" in nature)
        self.log, self.clamp = values.get("log"), values.get("clamp")
        self.nodes: dict[int, Node] = {}
        self.listings: dict[int, list[tuple[bytes, Node]] | None] = {}
        self.handles = 0
        self.node(stat.S_IFDIR | 0o755)

    def node(self, mode: int, body: list[bytes] | None = None) -> Node:
        """Make a node."""
        made = Node(len(self.nodes) + 1, mode, body or [b""], {} if stat.S_ISDIR(mode) else None)
        self.nodes[made.inode] = made
        return made

    # Names and attributes --------------------------------------------------------------------------------------------

    def split(self, data: bytes) -> list[bytes]:
        """Read the names at the end of a request."""
        names = data.split(b"\0")
        return [name.rstrip(b".") for name in names] if "dots" in self.natures else names

    def spelled(self, folder: Node, name: bytes) -> bytes:
        """Give the name under which a folder has an entry."""
        if "fold" in self.natures:
            return next((each for each in folder.names if each.lower() == name.lower()), name)
        return name

    def kid(self, folder: Node, name: bytes) -> Node:
        """Give an entry of a folder."""
        found = folder.names.get(self.spelled(folder, name))
        if found is None:
            raise OSError(errno.ENOENT, "")
        return found

    def add(self, folder: Node, name: bytes, node: Node) -> bytes:
        """Give a node a name."""
        if self.spelled(folder, name) in folder.names:
            raise OSError(errno.EEXIST, "")
        folder.names[name] = node
        folder.touch()
        return self.entry(node)

    def attributes(self, node: Node) -> bytes:
        """Make a struct fuse_attr."""
        if self.clamp and os.path.exists(self.clamp):
            os.unlink(self.clamp)
            for each in self.nodes.values():
                each.mtime = max(each.mtime, YEAR_1980)
        times, mode = [node.atime, node.mtime, node.ctime], node.mode
        if "fat" in self.natures:
            times = [moment // (2 * SECOND) * 2 * SECOND for moment in (node.atime, node.mtime, node.mtime)]
            mode = stat.S_IFMT(mode) | 0o777
        size = 4096 if node.kids is not None else len(node.body[0])
        seconds, parts = [moment // SECOND for moment in times], [moment % SECOND for moment in times]
        numbers = (mode, node.links, node.uid, node.gid, 0, 4096, 0)
        return struct.pack("<6Q10I", node.inode, size, (size + 511) // 512, *seconds, *parts, *numbers)

    def entry(self, node: Node) -> bytes:
        """Make a struct fuse_entry_out."""
        return struct.pack("<4Q2I", node.inode, 1, 0, 0, 0, 0) + self.attributes(node)

    def answer(self, node: Node) -> bytes:
        """Make a struct fuse_attr_out."""
        return struct.pack("<QII", 0, 0, 0) + self.attributes(node)

    def opened(self) -> bytes:
        """Make a struct fuse_open_out."""
        self.handles += 1
        self.listings[self.handles] = None
        return struct.pack("<QII", self.handles, 0, 0)

    # Requests --------------------------------------------------------------------------------------------------------

    def lookup(self, node: Node, data: bytes) -> bytes:
        return self.entry(self.kid(node, self.split(data)[0]))

    def getattr(self, node: Node, _data: bytes) -> bytes:
        return self.answer(node)

    def setattr(self, node: Node, data: bytes) -> bytes:
        values = struct.unpack_from("<IIQQQQQQIIIIIIII", data)
        valid, size, mode, uid, gid = values[0], values[3], values[11], values[13], values[14]
        atime, mtime = values[5] * SECOND + values[8], values[6] * SECOND + values[9]
        if valid & 1:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        node.uid = uid if valid & 2 else node.uid
        node.gid = gid if valid & 4 else node.gid
        if valid & 8:
            node.body[0] = node.body[0][:size].ljust(size, b"\0")
            node.touch()
        node.ctime = time.time_ns()
        if "follow" in self.natures and stat.S_ISLNK(node.mode) and valid & (OWNERS | TIMES):
            target = os.fsdecode(node.body[0])
            if not target.startswith("/"):
                raise OSError(errno.ENOENT, "")
            self.set_outside(target, valid, (uid, gid), (atime, mtime))
            return self.answer(node)
        if valid & 16:
            node.atime = node.ctime if valid & 128 else atime
        if valid & 32:
            node.mtime = node.ctime if valid & 256 else mtime
        return self.answer(node)

    @staticmethod
    def set_outside(target: str, valid: int, owners: tuple[int, int], times: tuple[int, int]) -> None:
        """Do what sshfs does: change the target of a symlink."""
        if valid & OWNERS:
            os.chown(target, owners[0] if valid & 2 else -1, owners[1] if valid & 4 else -1)
        if valid & TIMES:
            os.utime(target, ns=times)

    def readlink(self, node: Node, _data: bytes) -> bytes:
        return node.body[0]

    def symlink(self, node: Node, data: bytes) -> bytes:
        self.refuse_on_fat()
        name, target = data.split(b"\0")[:2]
        return self.add(node, name, self.node(stat.S_IFLNK | 0o777, [target]))

    def mknod(self, node: Node, data: bytes) -> bytes:
        (mode,) = struct.unpack_from("<I", data)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EPERM, "")
        return self.add(node, self.split(data[16:])[0], self.node(mode))

    def mkdir(self, node: Node, data: bytes) -> bytes:
        (mode,) = struct.unpack_from("<I", data)
        return self.add(node, self.split(data[8:])[0], self.node(stat.S_IFDIR | stat.S_IMODE(mode)))

    def unlink(self, node: Node, data: bytes) -> bytes:
        return self.remove(node, self.split(data)[0], folder=False)

    def rmdir(self, node: Node, data: bytes) -> bytes:
        return self.remove(node, self.split(data)[0], folder=True)

    def remove(self, node: Node, name: bytes, *, folder: bool) -> bytes:
        gone = self.kid(node, name)
        if not folder and gone.kids is not None:
            raise OSError(errno.EISDIR, "")
        if folder and gone.names:
            raise OSError(errno.ENOTEMPTY, "")
        del node.names[self.spelled(node, name)]
        gone.links -= 1
        node.touch()
        return b""

    def rename(self, node: Node, data: bytes) -> bytes:
        return self.move(node, data, self.split(data[8:])[:2], flags=0)

    def rename2(self, node: Node, data: bytes) -> bytes:
        return self.move(node, data, self.split(data[16:])[:2], flags=struct.unpack_from("<I", data, 8)[0])

    def move(self, node: Node, data: bytes, names: list[bytes], *, flags: int) -> bytes:
        to, (old, new) = self.nodes[struct.unpack_from("<Q", data)[0]], names
        place = self.spelled(to, new)
        if flags & ~1:
            raise OSError(errno.EINVAL, "")
        if flags & 1 and place in to.names:
            raise OSError(errno.EEXIST, "")
        moved, replaced = self.kid(node, old), to.names.get(place)
        if replaced is not None and replaced.kids is not None and moved.kids is None:
            raise OSError(errno.EISDIR, "")
        if replaced is not None and replaced.kids:
            raise OSError(errno.ENOTEMPTY, "")
        del node.names[self.spelled(node, old)]
        to.names.pop(place, None)
        to.names[new] = moved
        node.touch()
        to.touch()
        return b""

    def link(self, node: Node, data: bytes) -> bytes:
        self.refuse_on_fat()
        old = self.nodes[struct.unpack_from("<Q", data)[0]]
        if "few" in self.natures and old.links >= MOST_NAMES:
            raise OSError(errno.EMLINK, "")
        new = old
        if "sshlink" in self.natures:
            new = self.node(old.mode, old.body)
            new.mtime = old.mtime
        else:
            old.links += 1
        return self.add(node, self.split(data[8:])[0], new)

    def refuse_on_fat(self) -> None:
        if "fat" in self.natures:
            raise OSError(errno.EPERM, "")

    def open(self, _node: Node, _data: bytes) -> bytes:
        return self.opened()

    def create(self, node: Node, data: bytes) -> bytes:
        mode = struct.unpack_from("<II", data)[1]
        made = self.add(node, self.split(data[16:])[0], self.node(stat.S_IFREG | stat.S_IMODE(mode)))
        return made + self.opened()

    def read(self, node: Node, data: bytes) -> bytes:
        _, start, size = struct.unpack_from("<QQI", data)
        return node.body[0][start : start + size]

    def write(self, node: Node, data: bytes) -> bytes:
        _, start, size = struct.unpack_from("<QQI", data)
        before = node.body[0].ljust(start, b"\0")
        node.body[0] = before[:start] + data[40 : 40 + size] + before[start + size :]
        node.touch()
        return struct.pack("<II", size, 0)

    def readdir(self, node: Node, data: bytes) -> bytes:
        handle, start, size = struct.unpack_from("<QQI", data)
        listed = self.listings[handle]
        if start == 0:
            listed = [] if listed is not None and "once" in self.natures else list(node.names.items())
            self.listings[handle] = listed
        found = b""
        for number, (name, kid) in enumerate(listed or []):
            if number < start:
                continue
            one = struct.pack("<QQII", kid.inode, number + 1, len(name), stat.S_IFMT(kid.mode) >> 12) + name
            one += bytes(-len(one) % 8)
            if len(found) + len(one) > size:
                break
            found += one
        return found

    def statfs(self, _node: Node, _data: bytes) -> bytes:
        free_names = 0 if "noinodes" in self.natures else 1 << 19
        return struct.pack("<5Q4I6I", 1 << 20, 1 << 19, 1 << 19, 1 << 20, free_names, 4096, 255, 4096, 0, *[0] * 6)

    def sync(self, _node: Node, _data: bytes) -> bytes:
        if self.log:
            with open(self.log, "a", encoding="ascii") as log:
                log.write("sync\n")
        return b""

    def nothing(self, _node: Node, _data: bytes) -> bytes:
        return b""

    def release(self, _node: Node, data: bytes) -> bytes:
        self.listings.pop(struct.unpack_from("<Q", data)[0], None)
        return b""

    def no_attributes(self, _node: Node, _data: bytes) -> bytes:
        raise OSError(errno.EIO if "xeio" in self.natures else errno.EOPNOTSUPP, "")

    def start(self, _node: Node, _data: bytes) -> bytes:
        return struct.pack("<4I2H2I2H8I", 7, 31, 65536, 1 << 5, 12, 10, 65536, 1, 16, 0, *[0] * 8)


REQUESTS: dict[int, Callable[[MemoryFileSystem, Node, bytes], bytes]] = {
    1: MemoryFileSystem.lookup,
    3: MemoryFileSystem.getattr,
    4: MemoryFileSystem.setattr,
    5: MemoryFileSystem.readlink,
    6: MemoryFileSystem.symlink,
    8: MemoryFileSystem.mknod,
    9: MemoryFileSystem.mkdir,
    10: MemoryFileSystem.unlink,
    11: MemoryFileSystem.rmdir,
    12: MemoryFileSystem.rename,
    13: MemoryFileSystem.link,
    14: MemoryFileSystem.open,
    15: MemoryFileSystem.read,
    16: MemoryFileSystem.write,
    17: MemoryFileSystem.statfs,
    18: MemoryFileSystem.release,
    20: MemoryFileSystem.sync,
    21: MemoryFileSystem.no_attributes,
    22: MemoryFileSystem.no_attributes,
    23: MemoryFileSystem.no_attributes,
    24: MemoryFileSystem.no_attributes,
    25: MemoryFileSystem.nothing,
    26: MemoryFileSystem.start,
    27: MemoryFileSystem.open,
    28: MemoryFileSystem.readdir,
    29: MemoryFileSystem.release,
    30: MemoryFileSystem.sync,
    34: MemoryFileSystem.nothing,
    35: MemoryFileSystem.create,
    45: MemoryFileSystem.rename2,
    50: MemoryFileSystem.sync,
}
UNANSWERED = {2, 36, 42}
"""Forget, interrupt, forget many."""
DESTROY = 38


def mount(point: str) -> int:
    """Mount the file system; give the descriptor on which the kernel asks."""
    channel = os.open("/dev/fuse", os.O_RDWR)
    options = b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions" % channel
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"memfs", os.fsencode(point), b"fuse.memfs", 6, options):
        sys.exit("mount: " + os.strerror(ctypes.get_errno()))
    return channel


def serve(channel: int, files: MemoryFileSystem) -> None:
    """Answer the kernel until the file system is unmounted."""
    while True:
        try:
            request = os.read(channel, 1 << 18)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return
            continue
        _, kind, number, inode = struct.unpack_from("<IIQQ", request)
        if kind in UNANSWERED:
            continue
        code, answer = answer_to(files, kind, inode, request[40:])
        with contextlib.suppress(OSError):
            os.write(channel, struct.pack("<IiQ", 16 + len(answer), code, number) + answer)
        if kind == DESTROY:
            return


def answer_to(files: MemoryFileSystem, kind: int, inode: int, data: bytes) -> tuple[int, bytes]:
    """Give the error code, 0 or negative, and the body of an answer."""
    if kind == DESTROY:
        return 0, b""
    if kind not in REQUESTS:
        return -errno.ENOSYS, b""
    try:
        return 0, REQUESTS[kind](files, files.nodes.get(inode, files.nodes[1]), data)
    except OSError as error:
        return -(error.errno or errno.EIO), b""
    except Exception:  # noqa: BLE001  # an answer has to be given, or the caller hangs
        return -errno.EIO, b""


def main() -> None:
    """Mount, and serve in the background."""
    point, natures = sys.argv[1], sys.argv[2:]
    channel = mount(point)
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    serve(channel, MemoryFileSystem(natures))
    os._exit(0)


if __name__ == "__main__":
    main()
