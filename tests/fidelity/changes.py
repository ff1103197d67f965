"""What may happen to a tree, each change of the kind that some backup has missed."""

import os
import stat
import subprocess

from tests.fidelity.history import (
    Change,
    History,
    has_a_mode,
    holds_attributes,
    is_file,
    is_folder,
    is_link,
    is_no_folder,
)
from tests.fidelity.scope import ACCESS, DEFAULT, acl, plain_acl

_IDS = (0, 1234, 4321, 65534)
_FILE_MODES = (0o000, 0o400, 0o444, 0o600, 0o644, 0o755, 0o4755, 0o2750, 0o1777)
_FOLDER_MODES = (0o000, 0o500, 0o555, 0o700, 0o755, 0o1777, 0o2775)
_ACLS = (acl(7), acl(4, mask=5), acl(0, owner=6, group=6), acl(6, groups=(5555,)), plain_acl(6, 6, 0))


# Contents -------------------------------------------------------------------------------------------------------------


def create(tree: History) -> str:
    path = tree.fresh()
    with open(path, "wb") as file:
        file.write(tree.random.randbytes(tree.random.choice((0, 1, 4096, 20_000, 300_000))))
    return tree.shown(path)


def edit_keeping_size_and_mtime(tree: History) -> str:
    path = tree.pick(lambda path: is_file(path) and os.stat(path).st_size > 0)
    if not path:
        return ""
    before = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(tree.random.randrange(before.st_size))
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x5A]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return tree.shown(path)


def edit(tree: History) -> str:
    path = tree.pick(is_file)
    if not path:
        return ""
    with open(path, "ab") as file:
        file.truncate(tree.random.randrange(os.stat(path).st_size + 1))
        file.write(tree.random.randbytes(tree.random.choice((0, 1, 5000))))
    return tree.shown(path)


def punch_a_hole(tree: History) -> str:
    path = tree.pick(lambda path: is_file(path) and os.stat(path).st_size > 1 << 16)
    if not path:
        return ""
    start = tree.random.randrange(os.stat(path).st_size - 8192)
    arguments = ["--punch-hole", "--offset", str(start), "--length", "8192"]
    if tree.random.random() < 0.5:
        arguments = ["--dig-holes"]
    subprocess.run(["fallocate", *arguments, path], check=True)
    return tree.shown(path)


def replace(tree: History) -> str:
    path, fresh = tree.pick(is_file), b""
    if not path:
        return ""
    fresh = tree.fresh(near=path)
    with open(fresh, "wb") as file:
        file.write(tree.random.randbytes(os.stat(path).st_size % 100_000))
    if tree.random.random() < 0.5:
        _same_times(fresh, path)
    os.rename(fresh, path)
    return tree.shown(path)


def _same_times(path: bytes, like: bytes) -> None:
    seen = os.lstat(like)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns), follow_symlinks=False)


# Names ----------------------------------------------------------------------------------------------------------------


def rename(tree: History) -> str:
    path = tree.pick(is_no_folder)
    return _moved(tree, path, tree.fresh()) if path else ""


def rename_a_folder(tree: History) -> str:
    path, to = tree.pick(is_folder), tree.fresh()
    if not path or (to + b"/").startswith(path + b"/"):
        return ""
    tree.moved_folders()
    return _moved(tree, path, to)


def rename_in_case_only(tree: History) -> str:
    path = tree.pick(is_no_folder)
    to = tree.swapped_case(path) if path else None
    return _moved(tree, path, to) if path and to else ""


def rename_over(tree: History) -> str:
    path, to = tree.pick(is_no_folder), tree.pick(is_no_folder)
    return _moved(tree, path, to) if path and to and not os.path.samestat(os.lstat(path), os.lstat(to)) else ""


def swap_names(tree: History) -> str:
    path, other = tree.pick(is_no_folder), tree.pick(is_no_folder)
    if not path or not other or path == other:
        return ""
    beside = tree.fresh(near=path)
    os.rename(path, beside)
    os.rename(other, path)
    return _moved(tree, beside, other)


def swap_folders(tree: History) -> str:
    path, other = tree.pick(_is_leaf), tree.pick(_is_leaf)
    if not path or not other or path == other:
        return ""
    tree.moved_folders()
    beside = tree.fresh(near=path)
    os.rename(path, beside)
    os.rename(other, path)
    return _moved(tree, beside, other)


def _is_leaf(path: bytes) -> bool:
    return is_folder(path) and not any(is_folder(os.path.join(path, name)) for name in os.listdir(path))


def _moved(tree: History, path: bytes, to: bytes) -> str:
    os.rename(path, to)
    return f"{tree.shown(path)} to {tree.shown(to)}"


# Metadata -------------------------------------------------------------------------------------------------------------


def change_mode(tree: History) -> str:
    path = tree.pick(has_a_mode)
    if not path:
        return ""
    mode = tree.random.choice(_FOLDER_MODES if is_folder(path) else _FILE_MODES)
    os.chmod(path, mode)
    return f"{tree.shown(path)} {mode:o}"


def change_owner(tree: History) -> str:
    path = tree.pick(lambda _: True)
    if not path:
        return ""
    uid, gid = tree.random.choice(_IDS), tree.random.choice(_IDS)
    os.chown(path, uid, gid, follow_symlinks=False)
    return f"{tree.shown(path)} {uid} {gid}"


def change_time(tree: History) -> str:
    path = tree.pick(lambda _: True) if tree.random.random() < 0.5 else tree.folder()
    if not path:
        return ""
    when = tree.moment()
    os.utime(path, ns=(when, when), follow_symlinks=False)
    return f"{tree.shown(path)} {when}"


def set_attribute(tree: History) -> str:
    path = tree.pick(holds_attributes)
    if not path:
        return ""
    name, size = tree.random.choice(("user.colour", "user.new", "trusted.note")), tree.random.randrange(40)
    os.setxattr(path, name, tree.random.randbytes(size))
    return f"{tree.shown(path)} {name}"


def remove_attribute(tree: History) -> str:
    path = tree.pick(lambda path: holds_attributes(path) and bool(_removable(path)))
    if not path:
        return ""
    name = tree.random.choice(_removable(path))
    os.removexattr(path, name)
    return f"{tree.shown(path)} {name}"


def _removable(path: bytes) -> list[str]:
    return sorted(name for name in os.listxattr(path) if not name.startswith("security."))


def set_acl(tree: History) -> str:
    path = tree.pick(holds_attributes)
    if not path:
        return ""
    name = tree.random.choice((ACCESS, DEFAULT)) if is_folder(path) else ACCESS
    os.setxattr(path, name, tree.random.choice(_ACLS))
    return f"{tree.shown(path)} {name}"


# Links ----------------------------------------------------------------------------------------------------------------


def make_symlink(tree: History) -> str:
    path = tree.fresh()
    os.symlink(tree.random.choice((b"nowhere", b"..", b"\xff")), path)
    return tree.shown(path)


def retarget_symlink(tree: History) -> str:
    path = tree.pick(is_link)
    if not path:
        return ""
    fresh = tree.fresh(near=path)
    os.symlink(os.readlink(path)[::-1] + tree.random.choice((b"", b"x")), fresh)
    _same_times(fresh, path)
    os.rename(fresh, path)
    return tree.shown(path)


def give_another_name(tree: History) -> str:
    path = tree.pick(is_no_folder)
    if not path:
        return ""
    fresh = tree.fresh()
    os.link(path, fresh, follow_symlinks=False)
    return f"{tree.shown(path)} {tree.shown(fresh)}"


def join_two(tree: History) -> str:
    path, other = tree.pick(is_no_folder), tree.pick(is_no_folder)
    if not path or not other or os.path.samestat(os.lstat(path), os.lstat(other)):
        return ""
    fresh = tree.fresh(near=other)
    os.link(path, fresh, follow_symlinks=False)
    return _moved(tree, fresh, other) + f", which is {tree.shown(path)}"


def part_from_its_other_names(tree: History) -> str:
    path = tree.pick(lambda path: is_no_folder(path) and os.lstat(path).st_nlink > 1)
    if not path:
        return ""
    fresh = tree.fresh(near=path)
    subprocess.run(["cp", "--archive", path, fresh], check=True)
    if not is_file(fresh):
        tree.made_special(fresh)
    os.rename(fresh, path)
    return tree.shown(path)


# Kinds ----------------------------------------------------------------------------------------------------------------


def make_folder(tree: History) -> str:
    path = tree.fresh()
    os.mkdir(path, 0o755)
    tree.made_folder(path)
    return tree.shown(path)


def make_special(tree: History) -> str:
    path = tree.fresh()
    return f"{tree.shown(path)} {_make(tree, path, ('fifo', 'socket', 'device'))}"


def become_another_kind(tree: History) -> str:
    path = tree.pick(is_no_folder) if tree.random.random() < 0.7 else tree.bare()
    if not path:
        return ""
    before = os.lstat(path)
    (os.rmdir if stat.S_ISDIR(before.st_mode) else os.unlink)(path)
    kind = _make(tree, path, ("file", "link", "fifo", "socket", "device", "folder"))
    if tree.random.random() < 0.5:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)
    return f"{tree.shown(path)} {kind}"


def _make(tree: History, path: bytes, kinds: tuple[str, ...]) -> str:
    kind = tree.random.choice(kinds)
    if kind == "file":
        with open(path, "wb") as file:
            file.write(tree.random.randbytes(100))
    elif kind == "link":
        os.symlink(b"anywhere", path)
    elif kind == "folder":
        os.mkdir(path)
        tree.made_folder(path)
    else:
        types = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "device": stat.S_IFCHR}
        os.mknod(path, types[kind] | 0o640, os.makedev(1, 3) if kind == "device" else 0)
        tree.made_special(path)
    return kind


CHANGES: tuple[Change, ...] = (
    create,
    edit_keeping_size_and_mtime,
    edit,
    punch_a_hole,
    replace,
    rename,
    rename_a_folder,
    rename_in_case_only,
    rename_over,
    swap_names,
    swap_folders,
    change_mode,
    change_owner,
    change_time,
    set_attribute,
    remove_attribute,
    set_acl,
    make_symlink,
    retarget_symlink,
    give_another_name,
    join_two,
    part_from_its_other_names,
    make_folder,
    make_special,
    become_another_kind,
)
