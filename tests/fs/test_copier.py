"""Copying one file: read once, hashed while read, complete under a temp name or not there at all."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.core.record import Copied
from job.errors import ChangedWhileReadError, Stopped
from job.fs.hashing_reader import BUFFER_BYTES
from tests.fs.copying import TEMP, CopyRig

contents = st.one_of(
    st.binary(max_size=2000),
    st.builds(
        lambda pattern, size: (pattern * (size // len(pattern) + 1))[:size],
        st.binary(min_size=1, max_size=50),
        st.sampled_from([BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 2 * BUFFER_BYTES + 7]),
    ),
)
SUMS: dict[str, Callable[[bytes], str]] = {
    "sha256": lambda content: hashlib.sha256(content).hexdigest(),
    "blake3": lambda content: blake3(content).hexdigest(),
    "md5": lambda content: hashlib.md5(content).hexdigest(),
}


@given(contents, st.sampled_from(sorted(SUMS)))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_copy_is_equal_and_its_checksum_is_that_of_its_content(
    bench: CopyRig, content: bytes, algorithm: str
) -> None:
    (bench.source / "file").write_bytes(content)

    copied = bench.copy(algorithm=algorithm)

    assert bench.temp.read_bytes() == content
    assert copied.checksum == f"{algorithm}:{SUMS[algorithm](content)}"
    assert copied.inode == bench.temp.stat().st_ino
    assert bench.copier(algorithm).cold_checksum(TEMP, bench.mirror_folder) == copied.checksum
    assert bench.copier(algorithm).checksum(bench.listed(), bench.source_folder)[0] == copied.checksum
    bench.temp.unlink()


def test_an_empty_file_is_a_file(bench: CopyRig) -> None:
    (bench.source / "file").touch()

    copied = bench.copy()

    assert copied.source.size == 0
    assert copied.checksum == "sha256:" + hashlib.sha256().hexdigest()
    assert bench.temp.stat().st_size == 0


def test_a_copy_has_the_metadata_of_its_source(bench: CopyRig) -> None:
    path = bench.source / "file"
    path.write_text("content")
    path.chmod(0o751)
    os.setxattr(path, "user.colour", b"blue")
    os.utime(path, ns=(1, -123_456_789))

    copied = bench.copy()

    found = bench.temp.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o751, -123_456_789)
    assert os.getxattr(bench.temp, "user.colour") == b"blue"
    assert copied.source == bench.listed()


def test_every_byte_is_told_of_and_every_chunk_once(bench: CopyRig) -> None:
    (bench.source / "file").write_bytes(b"x" * (BUFFER_BYTES + 5))
    told: list[int] = []
    bench.chunk_done = told.append

    bench.copy()

    assert told == [BUFFER_BYTES, 5]


def test_nobody_else_can_read_a_copy_in_the_making(bench: CopyRig) -> None:
    (bench.source / "file").write_text("secret")
    modes: list[int] = []
    bench.chunk_done = lambda _: modes.append(stat.S_IMODE(bench.temp.stat().st_mode))

    bench.copy()

    assert modes == [0o600]


# Sources that move ----------------------------------------------------------------------------------------------------


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more")


def overwrite(path: Path) -> None:
    before = path.stat()
    with path.open("r+") as file:
        file.write("other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut_short(path: Path) -> None:
    os.truncate(path, 3)


def lock_up(path: Path) -> None:
    path.chmod(0)


@pytest.mark.parametrize("change", [append, overwrite, cut_short, lock_up])
def test_a_file_that_changes_whenever_it_is_read_is_given_up_and_leaves_nothing(
    bench: CopyRig, change: Callable[[Path], None]
) -> None:
    path = bench.source / "file"
    path.write_text("content " * 10)

    def disturb(_: int) -> None:
        path.chmod(0o600)
        path.write_text("content " * 10)
        change(path)

    bench.chunk_done = disturb

    with pytest.raises(ChangedWhileReadError, match="3 attempts"):
        bench.copy()

    assert bench.left_over == []


def test_a_file_that_changed_once_is_read_again_and_copied_whole(bench: CopyRig) -> None:
    path = bench.source / "file"
    path.write_bytes(b"first version, the longer one")
    waiting = [b"second version"]
    bench.chunk_done = lambda _: path.write_bytes(waiting.pop()) if waiting else None

    copied = bench.copy()

    assert bench.temp.read_bytes() == b"second version"
    assert copied.checksum == "sha256:" + hashlib.sha256(b"second version").hexdigest()
    assert copied.source == bench.listed()


def test_a_file_that_is_not_the_listed_one_is_not_read(bench: CopyRig) -> None:
    (bench.source / "file").write_text("listed")
    listed = bench.listed()
    (bench.source / "swapped").write_text("swapped")
    (bench.source / "swapped").rename(bench.source / "file")

    with pytest.raises(ChangedWhileReadError):
        bench.copy(listed)

    assert bench.left_over == []


@pytest.mark.parametrize("swapped", ["fifo", "folder", "link"])
def test_what_became_something_else_is_neither_waited_for_nor_followed(bench: CopyRig, swapped: str) -> None:
    (bench.source / "file").write_text("listed")
    listed = bench.listed()
    (bench.source / "file").rename(bench.source / "treasure")
    match swapped:
        case "fifo":
            os.mkfifo(bench.source / "file")
        case "folder":
            (bench.source / "file").mkdir()
        case _:
            (bench.source / "file").symlink_to("treasure")

    with pytest.raises((ChangedWhileReadError, OSError), match=r"something else|symbolic links"):
        bench.copy(listed)

    assert bench.left_over == []


def test_a_file_that_vanished_is_missing(bench: CopyRig) -> None:
    (bench.source / "file").touch()
    listed = bench.listed()
    (bench.source / "file").unlink()

    with pytest.raises(FileNotFoundError):
        bench.copy(listed)


@pytest.mark.parametrize("error", [Stopped("asked to"), KeyboardInterrupt(), OSError(errno.EIO, "disk")])
def test_a_copy_that_is_broken_off_leaves_no_temp(bench: CopyRig, error: BaseException) -> None:
    (bench.source / "file").write_bytes(b"x" * (BUFFER_BYTES + 1))

    def break_off(_: int) -> None:
        raise error

    bench.chunk_done = break_off

    with pytest.raises(type(error)):
        bench.copy()

    assert bench.left_over == []


def test_a_name_that_is_a_path_is_refused(bench: CopyRig) -> None:
    (bench.source / "file").touch()
    listed = bench.listed()._replace(name=b"../source/file")

    with pytest.raises(ValueError, match="single path component"):
        bench.copy(listed)


# Checksums of what lies there -----------------------------------------------------------------------------------------


def test_a_checksum_can_be_of_another_algorithm_than_the_one_in_force(bench: CopyRig) -> None:
    (bench.source / "file").write_bytes(b"content")

    found, seen = bench.copier("blake3").checksum(bench.listed(), bench.source_folder, "md5")

    assert found == "md5:" + hashlib.md5(b"content").hexdigest()
    assert seen == bench.listed()


def test_a_file_that_grows_as_fast_as_it_is_read_is_given_up(bench: CopyRig) -> None:
    path = bench.source / "file"
    path.write_text("content")
    bench.chunk_done = lambda _: append(path)

    with pytest.raises(ChangedWhileReadError):
        bench.copy()

    assert path.stat().st_size < 1000
    assert bench.left_over == []


def test_a_checksum_of_a_file_that_keeps_changing_is_none(bench: CopyRig) -> None:
    path = bench.source / "file"
    path.write_text("content")
    bench.chunk_done = lambda _: append(path)

    with pytest.raises(ChangedWhileReadError):
        bench.copier().checksum(bench.listed(), bench.source_folder)


def test_hashing_is_a_sign_of_life_and_no_progress(bench: CopyRig) -> None:
    (bench.source / "file").write_bytes(b"x" * (BUFFER_BYTES + 5))
    told: list[int] = []
    bench.chunk_done = told.append

    bench.copier().checksum(bench.listed(), bench.source_folder)

    assert told == [0, 0]


def test_reading_back_tells_of_another_content(bench: CopyRig) -> None:
    (bench.source / "file").write_bytes(b"content")
    copied = bench.copy()
    os.sync()
    with bench.temp.open("r+b") as file:
        file.write(b"C")

    assert bench.copier().cold_checksum(TEMP, bench.mirror_folder) != copied.checksum


# Links ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"file", b"nowhere/at all", b"/etc/passwd", b"\xff\n", b"x" * 1000])
def test_a_link_is_copied_as_text(bench: CopyRig, text: bytes) -> None:
    os.symlink(text, b"link", dir_fd=bench.source_folder)
    os.utime(bench.source / "link", ns=(1, 5), follow_symlinks=False)
    listed = bench.listed("link")

    copied = bench.copier().copy_link(listed, bench.source_folder, bench.mirror_folder, TEMP)

    assert os.readlink(TEMP, dir_fd=bench.mirror_folder) == text
    assert bench.temp.lstat().st_mtime_ns == 5
    assert copied == Copied(listed, "", bench.temp.lstat().st_ino, 5)


def test_what_is_no_link_any_more_is_not_copied_as_one(bench: CopyRig) -> None:
    (bench.source / "link").symlink_to("file")
    listed = bench.listed("link")
    (bench.source / "link").unlink()
    (bench.source / "link").touch()

    with pytest.raises((ChangedWhileReadError, OSError)):
        bench.copier().copy_link(listed, bench.source_folder, bench.mirror_folder, TEMP)

    assert bench.left_over == []
