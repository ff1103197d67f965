"""Who may change or read a file is found out with the file, on the whole way to it."""

import os
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from job.fs.mounts import resolve_path
from job.fs.trusted_file import Access, TrustedFile, read_trusted

STRANGER = 64003
ACL = "system.posix_acl_access"


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Lay out an access control list: tag, rights and number of each entry."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def letting_write(tag: int, number: int) -> bytes:
    nobody = 0xFFFFFFFF
    return acl((0x01, 6, nobody), *sorted([(0x04, 4, nobody), (tag, 6, number)]), (0x10, 6, nobody), (0x20, 4, nobody))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir(mode=0o755)
    (tmp_path / "folder/file").write_text("content")
    (tmp_path / "folder/file").chmod(0o644)
    return tmp_path.resolve()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mount a folder over itself, read-only."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def read(path: Path | str, *owners: int) -> TrustedFile:
    return read_trusted(str(path), 100, frozenset({os.geteuid(), *owners}))


def doubted(path: Path, *owners: int) -> list[tuple[str, Access]]:
    return [(os.path.relpath(doubt.path, path.parent), doubt.way) for doubt in read(path, *owners).doubts]


def mended(path: Path) -> None:
    """Run the commands that the doubts name, which has to leave none."""
    for doubt in read(path).doubts:
        assert os.waitstatus_to_exitcode(os.system(doubt.repair)) == 0, doubt.repair
    assert read(path).doubts == ()


def test_a_file_that_nobody_else_may_change_is_just_read(base: Path) -> None:
    assert read(base / "folder/file") == (b"content", (), read(base / "folder/file").exposed)


@pytest.mark.parametrize(("mode", "ways"), [(0o600, []), (0o644, []), (0o646, [Access.WRITE]), (0o666, [Access.WRITE])])
def test_the_mode_of_the_file_says_who_may_write(base: Path, mode: int, ways: list[Access]) -> None:
    (base / "folder/file").chmod(mode)

    found = read(base / "folder/file").doubts

    assert [doubt.way for doubt in found if "everybody" in doubt.why] == ways
    mended(base / "folder/file")


@pytest.mark.parametrize(
    ("mode", "count"), [(0o755, 0), (0o757, 1), (0o1777, 0), (0o1757, 0), (0o700, 0)], ids=lambda value: f"{value:o}"
)
def test_in_an_open_folder_anybody_may_exchange_it_unless_it_is_sticky(base: Path, mode: int, count: int) -> None:
    (base / "folder").chmod(mode)

    assert doubted(base / "folder/file") == [(".", Access.WRITE)] * count
    mended(base / "folder/file")


def test_each_folder_on_the_way_counts_also_on_the_way_of_a_link(base: Path) -> None:
    (base / "open/inner").mkdir(parents=True)
    (base / "open").chmod(0o777)
    (base / "open/inner/real").write_text("content")
    (base / "link").symlink_to("open/inner/real")
    (base / "folder/again").symlink_to("../link")

    assert {doubt.path for doubt in read(base / "folder/again").doubts} == {str(base / "open")}
    assert read(base / "folder/again").content == b"content"


def test_a_relative_path_has_the_folders_above_the_working_folder_on_its_way(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base / "folder")
    base.chmod(0o777)

    try:
        assert {doubt.path for doubt in read("file").doubts} == {str(base)}
    finally:
        base.chmod(0o700)


@pytest.mark.needs_root
@pytest.mark.parametrize("name", ["folder", "folder/file"])
def test_what_belongs_to_another_user_can_be_changed_by_that_user(base: Path, name: str) -> None:
    os.chown(base / name, STRANGER, 0)

    (doubt,) = read(base / "folder/file").doubts

    assert (doubt.way, doubt.user, doubt.repair) == (Access.OWN, STRANGER, "")
    assert str(doubt).endswith(f"belongs to user {STRANGER}"), "nothing is to be taken from that user"
    assert read(base / "folder/file", STRANGER).doubts == ()


@pytest.mark.needs_root
def test_a_link_of_another_user_can_be_exchanged_by_that_user(base: Path) -> None:
    base.chmod(0o1777)
    (base / "link").symlink_to("folder/file")
    os.chown(base / "link", STRANGER, STRANGER, follow_symlinks=False)

    assert doubted(base / "link") == [("link", Access.OWN)]
    assert "chown" not in str(read(base / "link").doubts)
    base.chmod(0o700)


@pytest.mark.needs_root
@pytest.mark.parametrize("name", ["folder", "folder/file"])
def test_a_group_that_may_write_is_another_one_unless_it_is_roots(base: Path, name: str) -> None:
    (base / name).chmod(0o775)
    assert read(base / "folder/file").doubts == ()

    os.chown(base / name, 0, STRANGER)

    (doubt,) = read(base / "folder/file").doubts
    assert f"group {STRANGER}" in doubt.why
    mended(base / "folder/file")


@pytest.mark.needs_root
def test_the_private_group_of_a_user_who_is_trusted_is_trusted(base: Path) -> None:
    for path in (base / "folder", base / "folder/file"):
        os.chown(path, STRANGER, STRANGER)
        path.chmod(0o775)

    assert read(base / "folder/file", STRANGER).doubts == ()
    os.chown(base / "folder/file", STRANGER, STRANGER + 1)
    assert doubted(base / "folder/file", STRANGER) == [("file", Access.WRITE)]


@pytest.mark.needs_root
@pytest.mark.parametrize("groups", ["", f"ann:x:{STRANGER}:\n"])
@pytest.mark.parametrize(("other", "trusted"), [(STRANGER, False), (STRANGER + 1, True)])
def test_a_group_that_another_user_has_as_primary_group_is_not_private(
    base: Path, groups: str, other: int, *, trusted: bool
) -> None:
    for path in (base / "folder", base / "folder/file"):
        os.chown(path, STRANGER, STRANGER)
        path.chmod(0o775)
    users = f"ann:x:{STRANGER}:{STRANGER}::/:/bin/sh\ncarl:x:{STRANGER + 5}:{other}::/:/bin/sh\n"
    for name, more in (("passwd", users), ("group", groups)):
        (base / name).write_text(Path(f"/etc/{name}").read_text("utf-8") + more, "utf-8")
    mounts = " && ".join(f"mount --bind {base}/{name} /etc/{name}" for name in ("passwd", "group"))
    asked = (
        "from job.fs.trusted_file import read_trusted;"
        f"print(len(read_trusted('{base}/folder/file', 100, frozenset({{0, {STRANGER}}})).doubts))"
    )

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh", sys.executable, "-c", asked],
        check=True,
        capture_output=True,
        text=True,
    )

    assert (done.stdout.strip() == "0") is trusted


def test_an_absolute_path_needs_no_working_folder(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = base / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert read(base / "folder/file").content == b"content"
    assert resolve_path(str(base / "folder/../folder/file")) == str(base / "folder/file")


@pytest.mark.needs_root
@pytest.mark.parametrize(("tag", "who"), [(0x02, f"user {STRANGER}"), (0x08, f"group {STRANGER}")])
@pytest.mark.parametrize("name", ["folder", "folder/file"])
def test_an_access_control_list_may_name_others_who_write(base: Path, tag: int, who: str, name: str) -> None:
    os.setxattr(base / name, ACL, letting_write(tag, STRANGER))

    (doubt,) = read(base / "folder/file").doubts

    assert (doubt.why.endswith(f"by {who}"), doubt.repair) == (True, f"setfacl -b {base / name}")


@pytest.mark.needs_root
def test_an_access_control_list_without_write_names_nobody(base: Path) -> None:
    os.setxattr(base / "folder/file", ACL, letting_write(0x02, STRANGER))
    (base / "folder/file").chmod(0o644)  # the mask

    assert read(base / "folder/file").doubts == ()


@pytest.mark.needs_root
def test_the_open_folder_of_a_read_only_mount_as_of_a_config_map_is_no_way_to_change_it(base: Path) -> None:
    (base / "folder/..data").mkdir()
    (base / "folder/..data/config.json").write_text("content")
    (base / "folder/config.json").symlink_to("..data/config.json")
    (base / "folder").chmod(0o777)

    with read_only(base / "folder"):
        assert read(base / "folder/config.json").doubts == ()
    assert doubted(base / "folder/file") == [(".", Access.WRITE)]


def test_what_everybody_may_read_is_told_unless_nobody_else_comes_that_far(base: Path) -> None:
    path = base / "folder/file"
    open_as_far_as_here = all(stat.S_IMODE(each.stat().st_mode) & 1 for each in (base, *base.parents))
    assert (read(path).exposed is not None) == open_as_far_as_here

    (base / "folder").chmod(0o700)
    assert read(path).exposed is None


def test_no_more_is_read_than_asked_for_and_nothing_but_files(base: Path) -> None:
    (base / "folder/file").write_bytes(b"x" * 101)
    os.mkfifo(base / "pipe")
    (base / "round").symlink_to("round")

    refused = {"folder/file": "larger than", "pipe": "not a regular", "folder": "a folder", "round": "Too many"}
    for path, error in refused.items():
        with pytest.raises(OSError, match=error):
            read(base / path)
    for path in ("", "a\0b", "x" * 5000, str(base / "none"), str(base / "folder/file/below")):
        with pytest.raises(OSError):  # noqa: PT011  # of any kind
            read(path)
