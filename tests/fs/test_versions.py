"""The versions folder of a mirror: paths of any depth, links beside the live names, and taken names."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from job.core.versions import Moment
from job.fs.versions import VersionLinks, VersionsFolder

NOON = Moment(1_796_000_400)


def test_a_path_of_more_folders_than_descriptors_is_kept(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("content")
    above = b"/".join([b"d"] * 200)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    mirror, folder = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path / "folder", os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (folder + 16, limits[1]))
    try:
        moved, error = VersionsFolder(mirror, None).retire([b"file"], folder, above, NOON)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(mirror)
        os.close(folder)

    assert (moved, error) == ({b"file": b".truecopy/versions/" + NOON.name + b"/" + above + b"/file"}, None)
    assert (tmp_path / os.fsdecode(moved[b"file"])).read_text() == "content"


Link = Callable[..., tuple[dict[bytes, bytes], dict[bytes, OSError]]]


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    """Link names of `tmp_path/folder` to the versions."""
    (tmp_path / "folder").mkdir()
    mirror, folder = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path / "folder", os.O_RDONLY)

    def keep(
        *names: bytes, above: bytes = b"folder", moment: Moment = NOON, synced: bool = False
    ) -> tuple[dict[bytes, bytes], dict[bytes, OSError]]:
        with closing(VersionLinks(VersionsFolder(mirror, None), moment, synced=synced)) as links:
            return links.link(names, folder, above)

    yield keep
    os.close(mirror)
    os.close(folder)


def test_a_linked_version_is_the_file_itself_and_stays_when_that_is_replaced(tmp_path: Path, link: Link) -> None:
    live = tmp_path / "folder/file"
    live.write_text("old")
    live.chmod(0o640)
    os.utime(live, (1_000_000_000, 1_000_000_000))
    inode = live.stat().st_ino

    linked, failed = link(b"file")
    (tmp_path / "folder/temp").write_text("new")
    (tmp_path / "folder/temp").rename(live)

    version = tmp_path / os.fsdecode(linked[b"file"])
    seen = version.stat()
    assert failed == {}
    assert linked == {b"file": b".truecopy/versions/" + NOON.name + b"/folder/file"}
    assert version.read_text() == "old"
    assert (seen.st_ino, seen.st_nlink, seen.st_mode & 0o777, seen.st_mtime) == (inode, 1, 0o640, 1_000_000_000)


def test_every_folder_of_the_versions_is_closed_to_others(tmp_path: Path, link: Link) -> None:
    (tmp_path / "folder/file").touch()

    link(b"file", above=b"a/b")

    for folder in (
        ".truecopy",
        ".truecopy/versions",
        *[f".truecopy/versions/{NOON.name.decode()}{end}" for end in ("", "/a", "/a/b")],
    ):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700


def test_a_symlink_is_linked_itself_whatever_it_leads_to(tmp_path: Path, link: Link) -> None:
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "folder/link").symlink_to(tmp_path / "secret")
    (tmp_path / "folder/dangling").symlink_to("nowhere")

    linked, failed = link(b"link", b"dangling")

    assert failed == {}
    assert [(tmp_path / os.fsdecode(path)).readlink() for path in linked.values()] == [
        tmp_path / "secret",
        Path("nowhere"),
    ]


def test_a_name_that_is_gone_has_no_version_and_is_no_error(tmp_path: Path, link: Link) -> None:
    (tmp_path / "folder/file").touch()

    linked, failed = link(b"gone", b"file")

    assert [*linked] == [b"file"]
    assert failed == {}


def test_a_folder_cannot_be_linked_and_stays(tmp_path: Path, link: Link) -> None:
    (tmp_path / "folder/inner").mkdir()
    (tmp_path / "folder/file").touch()

    linked, failed = link(b"inner", b"file")

    assert linked.keys() == {b"file"}
    assert failed[b"inner"].errno in {errno.EPERM, errno.EISDIR}
    assert (tmp_path / "folder/inner").is_dir()


def test_a_name_that_is_taken_goes_to_the_next_folder_of_the_same_moment(tmp_path: Path, link: Link) -> None:
    (tmp_path / "folder/file").write_text("first")
    (tmp_path / "folder/other").write_text("other")
    first, _ = link(b"file")
    (tmp_path / "folder/file").unlink()
    (tmp_path / "folder/file").write_text("second")

    second, _ = link(b"file", b"other")

    assert second == {
        b"file": b".truecopy/versions/" + NOON.name + b"-2/folder/file",
        b"other": b".truecopy/versions/" + NOON.name + b"/folder/other",
    }
    assert [(tmp_path / os.fsdecode(each[b"file"])).read_text() for each in (first, second)] == ["first", "second"]


def test_a_file_and_a_folder_of_one_name_in_one_second_keep_both(tmp_path: Path, link: Link) -> None:
    (tmp_path / "folder/foo").write_text("file")
    link(b"foo", above=b"")
    (tmp_path / "folder/x").write_text("in the folder")

    linked, failed = link(b"x", above=b"foo")

    assert (linked, failed) == ({b"x": b".truecopy/versions/" + NOON.name + b"-2/foo/x"}, {})
    assert (tmp_path / ".truecopy/versions" / os.fsdecode(NOON.name) / "foo").read_text() == "file"


def test_a_cycle_gets_a_moment_that_no_other_used(tmp_path: Path, link: Link) -> None:
    (tmp_path / "folder/file").touch()
    mirror = os.open(tmp_path, os.O_RDONLY)
    try:
        versions = VersionsFolder(mirror, None)
        assert versions.unused(NOON) == NOON
        assert not (tmp_path / ".truecopy").exists()
        link(b"file")
        assert versions.unused(NOON) == NOON._replace(number=2)
        link(b"file", moment=NOON._replace(number=2))
        assert versions.unused(NOON) == NOON._replace(number=3)
        assert versions.unused(NOON._replace(seconds=5)).number == 1
    finally:
        os.close(mirror)


def test_folders_of_any_order_and_depth_get_their_own(tmp_path: Path) -> None:
    paths = ["a/b/c", "a/b/d", "a", "", "z/y", "a/b/c/d/e", "/".join("d" * 60), "z"]
    for path in paths:
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
        (tmp_path / path / "file").write_text(path)
    mirror = os.open(tmp_path, os.O_RDONLY)
    with closing(VersionLinks(VersionsFolder(mirror, None), NOON, synced=True)) as links:
        for path in [*paths, *reversed(paths)]:
            folder = os.open(tmp_path / path, os.O_RDONLY)
            linked, failed = links.link([b"file"], folder, path.encode())
            os.close(folder)

            assert failed == {}
            assert (tmp_path / os.fsdecode(linked[b"file"])).read_text() == path
    os.close(mirror)


def test_a_link_planted_in_the_versions_is_not_followed(tmp_path: Path, link: Link) -> None:
    (tmp_path / "folder/file").touch()
    link(b"file", above=b"other")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / ".truecopy/versions" / os.fsdecode(NOON.name) / "a").symlink_to(outside)

    linked, failed = link(b"file", above=b"a/b")

    assert (linked, failed) == ({b"file": b".truecopy/versions/" + NOON.name + b"-2/a/b/file"}, {})
    assert [*outside.iterdir()] == []
