"""What may happen to a tree, any of it missed by some backup: contents and metadata; names are in `naming.py`."""

import os
import subprocess

from tests.fidelity.history import Change, History, has_a_mode, holds_attributes, is_file, is_folder
from tests.fidelity.naming import (
    become_another_kind,
    give_another_name,
    join_two,
    make_folder,
    make_special,
    make_symlink,
    part_from_its_other_names,
    rename,
    rename_a_folder,
    rename_in_case_only,
    rename_over,
    retarget_symlink,
    same_times,
    swap_folders,
    swap_names,
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
        same_times(fresh, path)
    os.rename(fresh, path)
    return tree.shown(path)


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
    path = tree.pick(has_a_mode)
    if not path:
        return ""
    name = tree.random.choice((ACCESS, DEFAULT)) if is_folder(path) else ACCESS
    os.setxattr(path, name, tree.random.choice(_ACLS))
    return f"{tree.shown(path)} {name}"


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
