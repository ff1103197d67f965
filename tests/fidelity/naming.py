"""Changes of names and kinds: renames, swaps, links, and one kind of entry in the place of another."""

import os
import stat
import subprocess

from tests.fidelity.history import History, is_file, is_folder, is_link, is_no_folder


def same_times(path: bytes, like: bytes) -> None:
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
    same_times(fresh, path)
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
