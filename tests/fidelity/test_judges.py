"""Judges that never find anything prove nothing: each kind of difference is found by one of them at least."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.fidelity.judging import compared
from tests.fidelity.oracle import below, differences, facts_of, left_to_do
from tests.fidelity.scope import ACCESS, Scope, acl
from tests.fidelity.variety import plant

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_tool("rsync")]


def later(path: Path) -> None:
    os.utime(path, ns=(0, path.lstat().st_mtime_ns + 1), follow_symlinks=False)


def flip(path: Path) -> None:
    seen = path.stat()
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    os.utime(path, ns=(0, seen.st_mtime_ns))


def keeping_time(path: Path, change: Callable[[], object]) -> None:
    """Change something in a folder without that being seen from its time."""
    seen = path.parent.stat()
    change()
    os.utime(path.parent, ns=(0, seen.st_mtime_ns))


def part(path: Path) -> None:
    def change() -> None:
        seen, content = path.stat(), path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        path.chmod(seen.st_mode)
        os.utime(path, ns=(0, seen.st_mtime_ns))

    keeping_time(path, change)


def fill(path: Path) -> None:
    seen = path.stat()
    with path.open("r+b") as file:
        file.write(bytes(seen.st_size))
    os.utime(path, ns=(0, seen.st_mtime_ns))


MEDDLING: dict[str, tuple[str, Callable[[Path], object]]] = {
    "content": ("contents/300000 bytes", flip),
    "a nanosecond of a file": ("contents/1 bytes", later),
    "a nanosecond of a folder": ("nested/empty", later),
    "a nanosecond of a link": ("links/up", later),
    "mode": ("modes/file 0644", lambda path: path.chmod(0o640)),
    "owner of a link": ("links/up", lambda path: os.chown(path, 5, 5, follow_symlinks=False)),
    "attribute": ("attributes/folder", lambda path: os.setxattr(path, "user.colour", b"red")),
    "attribute too many": ("contents/small 1", lambda path: os.setxattr(path, "user.colour", b"red")),
    "acl": ("modes/file 0755", lambda path: os.setxattr(path, ACCESS, acl(7, mask=5))),
    "link parted": ("hard_links/another 1", part),
    "hole filled": ("contents/sparse/all hole", fill),
    "name too many": ("nested/empty", lambda path: keeping_time(path, (path.parent / "stranger").touch)),
    "name missing": ("contents/0 bytes", lambda path: keeping_time(path, path.unlink)),
}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path, {"specials": "recreate", "keep_setuid": True, "keep_security": True})
    plant(rig.source, Scope())
    assert rig.once().code == 0
    return rig


def test_each_kind_of_difference_is_found(rig: Rig) -> None:
    """Holes are no content, so that `compare` says nothing of them."""
    silent, unsaid = [], []
    for what, (name, change) in MEDDLING.items():
        change(rig.mirror / name)
        if not left_to_do(rig.source, rig.mirror, delete=True) and not differences(rig.source, rig.mirror):
            silent.append(what)
        if not compared(rig):
            unsaid.append(what)
        rig.configure(**rig.options, audit_interval=0)
        if what == "name too many":
            keeping_time(rig.mirror / name, (rig.mirror / "nested/stranger").unlink)
        rig.once()

    assert silent == []
    assert unsaid == ["hole filled"]


def test_names_that_are_joined_in_the_mirror_only_are_found_by_our_own_judge(tmp_path: Path) -> None:
    for side in ("source", "mirror"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "one").write_text("same")
    os.link(tmp_path / "mirror/one", tmp_path / "mirror/other")
    (tmp_path / "source/other").write_text("same")
    for path in (*tmp_path.glob("*/*"), *tmp_path.glob("*")):
        os.utime(path, ns=(0, 0))

    assert differences(tmp_path / "source", tmp_path / "mirror") == ["b'other' and b'one' are joined in the mirror"]


def test_the_tree_has_more_than_two_hundred_entries_of_all_kinds(tmp_path: Path) -> None:
    plant(tmp_path, Scope())

    found = [facts for name in below(tmp_path) if (facts := facts_of(tmp_path, name))]

    assert len(found) > 300
    assert {facts.mode >> 12 for facts in found} == {0o01, 0o02, 0o04, 0o06, 0o10, 0o12, 0o14}
