"""Small files replaced as a whole."""

import os
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.fs.own_files import create, replace_file, write_all


@contextmanager
def files_no_larger_than(most: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.usefixtures("no_leak")
class TestReplaceFile:
    def test_makes_a_private_file_where_there_was_none(self, folder: int, tmp_path: Path) -> None:
        replace_file(folder, b"note", b"content")

        assert (tmp_path / "note").read_bytes() == b"content"
        assert stat.S_IMODE((tmp_path / "note").stat().st_mode) == 0o600

    def test_gives_the_mode_that_was_asked_for_whatever_the_umask(self, folder: int, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            replace_file(folder, b"note", b"", mode=0o644)
        finally:
            os.umask(before)

        assert stat.S_IMODE((tmp_path / "note").stat().st_mode) == 0o644

    def test_leaves_the_old_content_to_who_has_it_open(self, folder: int, tmp_path: Path) -> None:
        (tmp_path / "note").write_bytes(b"old")
        with (tmp_path / "note").open("rb") as reader:
            replace_file(folder, b"note", b"new and longer")

            assert reader.read() == b"old"

        assert (tmp_path / "note").read_bytes() == b"new and longer"

    def test_replaces_a_link_and_never_what_it_leads_to(self, folder: int, tmp_path: Path) -> None:
        (tmp_path / "treasure").write_bytes(b"precious")
        (tmp_path / "note").symlink_to("treasure")

        replace_file(folder, b"note", b"new")

        assert (tmp_path / "treasure").read_bytes() == b"precious"
        assert not (tmp_path / "note").is_symlink()

    def test_leaves_old_content_and_no_temp_when_the_disk_takes_only_a_part(self, folder: int, tmp_path: Path) -> None:
        (tmp_path / "note").write_bytes(b"old")

        with files_no_larger_than(4096), pytest.raises(OSError, match="too large"):
            replace_file(folder, b"note", b"x" * 10_000)

        assert [each.name for each in tmp_path.iterdir()] == ["note"]
        assert (tmp_path / "note").read_bytes() == b"old"

    def test_leaves_no_temp_when_a_folder_is_in_the_way(self, folder: int, tmp_path: Path) -> None:
        (tmp_path / "note").mkdir()

        with pytest.raises(IsADirectoryError):
            replace_file(folder, b"note", b"new")

        assert [each.name for each in tmp_path.iterdir()] == ["note"]

    @pytest.mark.parametrize("name", [b"../note", b"a/b", b".."])
    def test_stays_in_its_folder(self, folder: int, name: bytes) -> None:
        with pytest.raises(ValueError, match="single path component"):
            replace_file(folder, name, b"")


@pytest.mark.parametrize("planted", ["file", "link", "dangling", "fifo", "folder"])
def test_a_new_file_is_never_something_that_was_there_before(folder: int, tmp_path: Path, planted: str) -> None:
    (tmp_path / "treasure").touch()
    match planted:
        case "file":
            (tmp_path / "temp").touch()
        case "link":
            (tmp_path / "temp").symlink_to("treasure")
        case "dangling":
            (tmp_path / "temp").symlink_to("nowhere")
        case "fifo":
            os.mkfifo(tmp_path / "temp")
        case _:
            (tmp_path / "temp").mkdir()

    with pytest.raises(FileExistsError):
        create(b"temp", folder)

    assert not (tmp_path / "nowhere").exists()


@given(st.binary(max_size=300_000))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_everything_is_written_however_little_a_call_takes(content: bytes) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    child = os.fork()
    if child == 0:
        os.close(reading)
        write_all(writing, memoryview(content))
        os._exit(0)
    os.close(writing)
    os.set_blocking(reading, True)

    with open(reading, "rb") as pipe:
        arrived = pipe.read()

    assert os.waitpid(child, 0)[1] == 0
    assert arrived == content
