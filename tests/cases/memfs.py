# A file system in memory that speaks the kernel's FUSE protocol itself; needs root and /dev/fuse, nothing else.
# usage: memfs.py MOUNTPOINT [once] [fat] [sshlink]
#   once     a folder that stays open is listed only once; then its listing is empty (sshfs without its folder cache)
#   fat      times to two seconds, no change time of its own, no modes, owners and links (FAT, exFAT)
#   follow   times and owners set on a symlink go to what it points at, also outside (sshfs)
#   few      a file can have five names (ext4: 65000, Amazon EFS: 177)
#   dots     dots at the end of a name are dropped (the kernel's exFAT and VFAT)
#   fold     names that differ in case only are one (exFAT)
#   noinodes says that none of its many file names are left (rclone mount of Debian 12)
#   xeio     attributes cannot be listed: an I/O error (rclone mount of Debian 12)
#   clamp=FILE  when FILE appears, times before 1980 become 1980 (what exfat-fuse forgets when it is unmounted)
#   log=FILE writes a line for each fsync that arrives
#   sshlink  a hard link works, but looks like a file of its own: other inode number, link count 1 (sshfs)
import ctypes, errno, os, stat, struct, sys, time
WHERE, NATURE = sys.argv[1], set(sys.argv[2:])
LOG = ([a[4:] for a in NATURE if a.startswith('log=')] or [''])[0]
class Node:
    count = 0
    def __init__(self, mode, body=None):
        Node.count += 1
        self.ino, self.mode, self.uid, self.gid, self.nlink = Node.count, mode, os.geteuid(), os.getegid(), 1
        self.body = body if body is not None else [b'']
        self.kids = {} if stat.S_ISDIR(mode) else None
        self.atime = self.mtime = self.ctime = time.time_ns()
        nodes[self.ino] = self
nodes = {}
root = Node(stat.S_IFDIR | 0o755)
handles, last = {}, [0]
CLAMP = ([a[6:] for a in NATURE if a.startswith('clamp=')] or [''])[0]
def coarse(ns):
    return ns // 2000000000 * 2000000000 if 'fat' in NATURE else ns
def attr(n):
    if CLAMP and os.path.exists(CLAMP):
        os.unlink(CLAMP)
        for each in nodes.values(): each.mtime = max(each.mtime, 315532800 * 10 ** 9)
    a, m, c = (coarse(t) for t in (n.atime, n.mtime, n.ctime))
    if 'fat' in NATURE: c = m
    size = 4096 if n.kids is not None else len(n.body[0])
    mode = n.mode if 'fat' not in NATURE else (stat.S_IFDIR | 0o777 if n.kids is not None else stat.S_IFREG | 0o777)
    b = 10 ** 9
    return struct.pack('<6Q10I', n.ino, size, (size + 511) // 512, a // b, m // b, c // b, a % b, m % b, c % b, mode, n.nlink, n.uid, n.gid, 0, 4096, 0)
def entry(n): return struct.pack('<4Q2I', n.ino, 1, 0, 0, 0, 0) + attr(n)
def fail(number): raise OSError(number, '')
def kid(n, name):
    name = real(n, name)
    if name not in n.kids: fail(errno.ENOENT)
    return n.kids[name]
def touch(n): n.mtime = n.ctime = time.time_ns()
def opened(what):
    last[0] += 1; handles[last[0]] = what
    return struct.pack('<QII', last[0], 0, 0)
def names(data): return [x.rstrip(b'.') if 'dots' in NATURE else x for x in data.split(b'\0')]
def real(n, name):
    if 'fold' in NATURE:
        for each in n.kids:
            if each.lower() == name.lower(): return each
    return name
def add(parent, name, n):
    if real(parent, name) in parent.kids: fail(errno.EEXIST)
    parent.kids[name] = n; touch(parent)
    return n
def handle(op, n, data):
    if op == 1: return entry(kid(n, names(data)[0]))
    if op == 3: return struct.pack('<QII', 0, 0, 0) + attr(n)
    if op == 4:
        v = struct.unpack_from('<IIQQQQQQIIIIIIII', data)
        valid, size, at, mt, an, mn, mode, uid, gid = v[0], v[3], v[5], v[6], v[8], v[9], v[11], v[13], v[14]
        if valid & 1: n.mode = stat.S_IFMT(n.mode) | (mode & 0o7777)
        if valid & 2: n.uid = uid
        if valid & 4: n.gid = gid
        if valid & 8: n.body[0] = n.body[0][:size] + bytes(max(0, size - len(n.body[0]))); touch(n)
        n.ctime = time.time_ns()
        if 'follow' in NATURE and stat.S_ISLNK(n.mode) and valid & (2 | 4 | 16 | 32):
            target = os.fsdecode(n.body[0])
            if target.startswith('/'):
                if valid & 6: os.chown(target, uid if valid & 2 else -1, gid if valid & 4 else -1)
                if valid & 48: os.utime(target, ns=(at * 10 ** 9 + an, mt * 10 ** 9 + mn))
                return struct.pack('<QII', 0, 0, 0) + attr(n)
            fail(errno.ENOENT)
        if valid & 16: n.atime = n.ctime if valid & 128 else at * 10 ** 9 + an
        if valid & 32: n.mtime = n.ctime if valid & 256 else mt * 10 ** 9 + mn
        return struct.pack('<QII', 0, 0, 0) + attr(n)
    if op == 5: return n.body[0]
    if op == 6:
        if 'fat' in NATURE: fail(errno.EPERM)
        name, target = data.split(b'\0')[:2]
        return entry(add(n, name, Node(stat.S_IFLNK | 0o777, [target])))
    if op == 8:
        mode = struct.unpack_from('<I', data)[0]
        if not stat.S_ISREG(mode): fail(errno.EPERM)
        return entry(add(n, names(data[16:])[0], Node(mode)))
    if op == 9:
        mode = struct.unpack_from('<I', data)[0]
        return entry(add(n, names(data[8:])[0], Node(stat.S_IFDIR | (mode & 0o7777))))
    if op in (10, 11):
        name = names(data)[0]; gone = kid(n, name)
        if op == 10 and gone.kids is not None: fail(errno.EISDIR)
        if op == 11 and gone.kids: fail(errno.ENOTEMPTY)
        del n.kids[real(n, name)]; gone.nlink -= 1; touch(n); return b''
    if op in (12, 45):
        to = nodes[struct.unpack_from('<Q', data)[0]]; old, new = names(data[8 if op == 12 else 16:])[:2]
        flags = struct.unpack_from('<I', data, 8)[0] if op == 45 else 0
        if flags & ~1: fail(errno.EINVAL)
        if flags & 1 and real(to, new) in to.kids: fail(errno.EEXIST)
        what = kid(n, old)
        there = to.kids.get(real(to, new))
        if there is not None and there.kids is not None and what.kids is None: fail(errno.EISDIR)
        if there is not None and there.kids: fail(errno.ENOTEMPTY)
        del n.kids[real(n, old)]
        if there is not None: to.kids.pop(real(to, new), None)
        to.kids[new] = what; touch(n); touch(to); return b''
    if op == 13:
        if 'fat' in NATURE: fail(errno.EPERM)
        old = nodes[struct.unpack_from('<Q', data)[0]]
        if 'few' in NATURE and old.nlink >= 5: fail(errno.EMLINK)
        if 'sshlink' in NATURE:
            new = Node(old.mode, old.body); new.mtime = old.mtime
        else: new = old; old.nlink += 1
        return entry(add(n, names(data[8:])[0], new))
    if op in (14, 27): return opened([n, False])
    if op == 15:
        fh, off, size = struct.unpack_from('<QQI', data); return n.body[0][off:off + size]
    if op == 16:
        fh, off, size = struct.unpack_from('<QQI', data); new = data[40:40 + size]; b = n.body[0]
        n.body[0] = b[:off] + bytes(max(0, off - len(b))) + new + b[off + size:]; touch(n)
        return struct.pack('<II', size, 0)
    if op == 17: return struct.pack('<5Q4I6I', 1 << 20, 1 << 19, 1 << 19, 1 << 20, 0 if 'noinodes' in NATURE else 1 << 19, 4096, 255, 4096, 0, *[0] * 6)
    if op in (18, 29): handles.pop(struct.unpack_from('<Q', data)[0], None); return b''
    if op in (20, 25, 30, 34, 50):
        if LOG and op in (20, 30, 50): open(LOG, 'a').write('sync\n')
        return b''
    if op == 28:
        fh, off, size = struct.unpack_from('<QQI', data); h = handles[fh]
        if off == 0:
            if h[1] and 'once' in NATURE: h[2] = []
            else: h[1:] = [True, list(n.kids.items())]
        out = b''
        for i, (name, k) in enumerate(h[2]):
            if i < off: continue
            one = struct.pack('<QQII', k.ino, i + 1, len(name), stat.S_IFMT(k.mode) >> 12) + name
            one += bytes(-len(one) % 8)
            if len(out) + len(one) > size: break
            out += one
        return out
    if op == 35:
        mode = struct.unpack_from('<II', data)[1]
        new = add(n, names(data[16:])[0], Node(stat.S_IFREG | (mode & 0o7777)))
        return entry(new) + opened([new, False])
    if op in (21, 22, 23, 24): fail(errno.EIO if 'xeio' in NATURE else errno.EOPNOTSUPP)
    fail(errno.ENOSYS)
fd = os.open('/dev/fuse', os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b'memfs', os.fsencode(WHERE), b'fuse.memfs', 6, b'fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions' % fd):
    sys.exit('mount: ' + os.strerror(ctypes.get_errno()))
if os.fork(): os._exit(0)
os.setsid(); null = os.open(os.devnull, os.O_RDWR); [os.dup2(null, i) for i in range(3)]
while True:
    try: raw = os.read(fd, 1 << 18)
    except OSError as error:
        if error.errno == errno.ENODEV: os._exit(0)
        continue
    length, op, unique, node = struct.unpack_from('<IIQQ', raw); data = raw[40:]
    if op in (2, 36, 42): continue
    try:
        if op == 26: code, out = 0, struct.pack('<4I2H2I2H8I', 7, 31, 65536, 1 << 5, 12, 10, 65536, 1, 16, 0, *[0] * 8)
        else: code, out = 0, handle(op, nodes.get(node), data)
    except OSError as error: code, out = -error.errno, b''
    except Exception: code, out = -errno.EIO, b''
    try: os.write(fd, struct.pack('<IiQ', 16 + len(out), code, unique) + out)
    except OSError: pass
    if op == 38: os._exit(0)
