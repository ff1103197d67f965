"""`compare`: each kind of difference between a source and its mirror is reported, and nothing else."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from job.app.preview_setup import open_comparison
from job.engine.preflight.open_pair import open_roots
from job.engine.tree_compare import HARMLESS, Difference, compare
from tests.engine.test_hard_links import give_name, part
from tests.engine.workshop import Workshop


def compared(shop: Workshop) -> list[Difference]:
    with (
        open_roots(shop.pair, shop.config.state_dir) as (source, mirror),
        open_comparison(shop.config, shop.pair, source, mirror, lambda _entries, _bytes: None) as view,
    ):
        return list(compare(view))


def told(shop: Workshop) -> dict[bytes, str]:
    return {each.path: each.what for each in compared(shop)}


@pytest.fixture
def full(shop: Workshop) -> Workshop:
    """Give a workshop with one of everything, mirrored."""
    shop.options["specials"] = "recreate"
    shop.write("file")
    shop.write("folder/other", "other")
    give_name(shop, "file", "folder/same")
    (shop.source / "link").symlink_to("file")
    os.mkfifo(shop.source / "pipe")
    shop.cycle()
    return shop


def test_a_mirror_that_is_as_its_source_has_no_differences(full: Workshop) -> None:
    assert compared(full) == []


def flip(path: Path) -> None:
    """Change one byte, and nothing that a stat shows."""
    before = path.stat()
    path.write_text("C" + path.read_text()[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def retarget(path: Path) -> None:
    before = path.lstat()
    path.unlink()
    path.symlink_to("elsewhere")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("folder/other", flip, "content"),
    ("folder/other", lambda path: path.chmod(0o600), "mode"),
    ("folder/other", lambda path: os.utime(path, ns=(5, 5)), "times"),
    ("folder/other", lambda path: os.setxattr(path, "user.colour", b"red"), "attributes"),
    ("folder", lambda path: path.chmod(0o700), "mode"),
    ("folder", lambda path: os.utime(path, ns=(5, 5)), "times"),
    ("folder", lambda path: os.setxattr(path, "user.colour", b"red"), "attributes"),
    ("link", retarget, "target"),
    ("link", lambda path: os.utime(path, ns=(5, 5), follow_symlinks=False), "times"),
]


@pytest.mark.parametrize(("name", "change", "what"), CHANGES)
def test_what_differs_is_named(full: Workshop, name: str, change: Callable[[Path], object], what: str) -> None:
    change(full.mirror / name)

    found = told(full)

    # What is done in the root moves its time as well.
    assert {path: each for path, each in found.items() if path} == {name.encode(): what}


@pytest.mark.needs_root
def test_owners_and_devices_are_compared(shop: Workshop) -> None:
    shop.options["specials"] = "recreate"
    for root, minor in ((shop.source, 1), (shop.mirror, 2)):
        os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(7, minor))
        (root / "file").touch()
        os.utime(root / "file", ns=(5, 5))
    os.chown(shop.mirror / "file", 12, 34)

    found = {(each.path, each.what) for each in compared(shop)}

    assert {(b"device", "device"), (b"file", "owner")} <= found
    assert next(each.detail for each in compared(shop) if each.what == "owner").startswith("12:34 instead of ")


def test_what_is_missing_is_of_another_kind_or_left_over_is_told(full: Workshop) -> None:
    (full.mirror / "folder/same").unlink()
    replace_by_a_folder(full.mirror / "link")
    (full.mirror / "extra").touch()
    (full.mirror / "pipe").unlink()
    (full.mirror / ".truecopy-tmp-1").touch()

    found = {path: what for path, what in told(full).items() if path not in {b"", b"folder"}}

    assert found == {b"folder/same": "missing", b"link": "kind", b"extra": "extra", b"pipe": "missing"}
    assert {"extra", "unsupported", "left_out", "unread"} == HARMLESS


def test_a_missing_folder_is_told_with_all_that_it_would_hold(full: Workshop) -> None:
    for path in (full.mirror / "folder").iterdir():
        path.unlink()
    (full.mirror / "folder").rmdir()

    found = [each for each in compared(full) if each.path and each.what != "times"]

    assert {each.what for each in found} == {"missing"}
    assert [each.path for each in found] == [b"folder", b"folder/other", b"folder/same"]


def test_links_that_are_parted_or_joined_wrongly_are_told(full: Workshop) -> None:
    part(full.mirror / "folder/same")

    assert {path for path, what in told(full).items() if what == "links"} == {b"file", b"folder/same"}

    full.cycle()
    assert compared(full) == []
    part(full.source / "folder/same")
    assert {b"file", b"folder/same"} & {path for path, what in told(full).items() if what == "links"}


def test_what_the_options_leave_out_is_no_difference(full: Workshop) -> None:
    full.options |= {"specials": "skip", "exclude": ["folder/"]}
    full.write("folder/new")
    (full.mirror / "pipe").unlink()

    assert {path: what for path, what in told(full).items() if path} == {}


def test_reserved_names_and_unreadable_folders_are_told(full: Workshop) -> None:
    full.write(".truecopy-tmp-mine")

    assert told(full)[b".truecopy-tmp-mine"] == "missing"


def test_nothing_is_changed(full: Workshop) -> None:
    (full.mirror / "file").unlink()
    before = {path: path.lstat() for path in full.base.rglob("*")}

    compared(full)

    after = {path: path.lstat() for path in full.base.rglob("*")}
    assert [(path, found.st_mtime_ns, found.st_ctime_ns) for path, found in after.items()] == [
        (path, found.st_mtime_ns, found.st_ctime_ns) for path, found in before.items()
    ]


def test_a_huge_folder_is_compared_in_parts(huge_shop: Workshop) -> None:
    huge_shop.cycle()
    assert compared(huge_shop) == []
    flip(huge_shop.mirror / "crowd" / "f-17")

    assert told(huge_shop) == {b"crowd/f-17": "content"}
