"""What has a name when it is read is not what had it when it was listed: nothing of the one is given to the other."""

import os
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from job.core.outcome import Failure
from job.engine.copy.batch import MOST_FILES
from job.errors import ChangedWhileReadError
from job.fs.dircursor import open_root
from job.fs.listing import Listing, entry_of
from job.fs.metadata import MetadataWriter
from job.fs.scanners import SourceScanner
from job.fs.small_copies import copy_link
from tests.engine.interference import Moment, at, interfered
from tests.engine.workshop import Workshop, assert_mirrored, changed


def open_to_all(path: Path) -> None:
    """Put another file, that anybody may write to, under the name."""
    fresh = path.with_name("fresh")
    fresh.write_text("not secret")
    fresh.chmod(0o666)
    fresh.rename(path)


def a_link(path: Path) -> None:
    """Put a link, whose mode is of no meaning, under the name."""
    path.unlink()
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("swap", [open_to_all, a_link])
def test_a_mode_is_mended_to_that_of_the_file_that_was_compared_and_to_no_others(shop: Workshop, swap: Moment) -> None:
    private = shop.write("private", "secret")
    private.chmod(0o600)
    shop.cycle()
    private.chmod(0o400)

    told = shop.cycle(interfered(after_checksum=at(private, swap, private)))

    assert told.failed.keys() == {b"private"}
    assert stat.S_IMODE((shop.mirror / "private").stat().st_mode) == 0o600
    shop.cycle()
    assert_mirrored(shop)


class Exchanging(SourceScanner):
    """The real source; right after one folder was listed, another one gets its name."""

    def __init__(self, real: SourceScanner, path: bytes, folder: Path, other: Path) -> None:
        self.__dict__ = real.__dict__
        self.path, self.folder, self.other = path, folder, other

    def list(self, path: bytes) -> Listing:
        found = super().list(path)
        self._exchange(path)
        return found

    def as_scanned(self, path: bytes, folder: int, packed: bytes, fingerprint: bytes) -> Listing | None:
        found = super().as_scanned(path, folder, packed, fingerprint)
        self._exchange(path)
        return found

    def _exchange(self, path: bytes) -> None:
        if path == self.path and self.other.exists():
            self.folder.rename(self.folder.with_name("aside"))
            self.other.rename(self.folder)


def test_a_folder_gets_no_attributes_of_another_one_that_took_its_name(shop: Workshop, tmp_path: Path) -> None:
    shop.write("sub/file")
    other = tmp_path / "other"
    other.mkdir()
    os.setxattr(other, "user.of", b"the other")

    told = shop.cycle(
        changed(lambda context: replace(context, source=Exchanging(context.source, b"sub", shop.source / "sub", other)))
    )

    assert told.failed == {b"sub/file": Failure.CHANGED_DURING_COPY}
    assert "user.of" not in os.listxattr(shop.mirror / "sub")


def test_what_took_the_name_of_a_new_link_in_the_mirror_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hard link to a file elsewhere would get the owner of the link, which anybody may choose."""
    victim, source, mirror = tmp_path / "victim", tmp_path / "source", tmp_path / "mirror"
    victim.write_text("precious")
    before = victim.stat()
    for folder in (source, mirror):
        folder.mkdir()
    (source / "link").symlink_to("anywhere")
    os.utime(source / "link", ns=(1, 1), follow_symlinks=False)

    def planted(target: bytes, name: bytes, dir_fd: int) -> None:
        del target
        os.link(victim, name, dst_dir_fd=dir_fd)

    monkeypatch.setattr(os, "symlink", planted)
    with closing(_Folder(source)) as here, closing(_Folder(mirror)) as there:
        listed = entry_of(b"link", (source / "link").lstat())
        with pytest.raises(OSError, match="no longer"):
            copy_link(listed, here.number, there.number, b"temp", MetadataWriter())

    after = victim.stat()
    assert (after.st_mtime_ns, after.st_uid, after.st_nlink) == (before.st_mtime_ns, before.st_uid, 1)


def test_a_link_that_is_another_one_than_was_listed_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("one")
    listed = entry_of(b"link", (tmp_path / "link").lstat())
    (tmp_path / "other").symlink_to("two")
    (tmp_path / "other").rename(tmp_path / "link")

    with closing(_Folder(tmp_path)) as here, pytest.raises(ChangedWhileReadError):
        copy_link(listed, here.number, here.number, b"temp", MetadataWriter())

    assert not (tmp_path / "temp").is_symlink()


class _Folder:
    def __init__(self, path: Path) -> None:
        self.number = open_root(str(path))

    def close(self) -> None:
        os.close(self.number)


@pytest.mark.parametrize("also", [[], ["link"]], ids=["staged", "temps"])
def test_nothing_of_a_private_folder_that_was_moved_to_a_new_public_one_can_be_read(
    shop: Workshop, also: list[str]
) -> None:
    shop.write("top/a")
    (shop.source / "top").chmod(0o777)
    shop.cycle()
    for number in range(3):
        shop.write(f"top/private/{number}", "secret")
        shop.write(f"top/public/{number}", "open")
    for name in also:  # then the folder is not staged
        (shop.source / "top/private" / name).symlink_to("0")
    (shop.source / "top/private").chmod(0o700)
    private, public = shop.mirror / "top/private", shop.mirror / "top/public"

    def exchange(path: Path) -> None:
        if path == shop.source / "top/private/2" and private.exists():
            public.rename(public.with_name("away"))
            private.rename(public)

    told = shop.cycle(interfered(exchange))

    lost = [os.fsencode(f"top/private/{name}") for name in [*range(3), *also]] if also else []
    assert told.failed.keys() == {*lost, *([b"top/private"] if also else [])}
    assert {path.read_text() for path in public.iterdir()} == {"open"}
    assert len(shop.cycle().copied) == len(lost)
    shop.cycle()  # the folder above was changed by others
    assert_mirrored(shop)


def test_a_new_folder_with_files_that_was_moved_to_a_new_public_one_stays_closed_until_it_has_none(
    shop: Workshop,
) -> None:
    shop.write("top/a")
    (shop.source / "top").chmod(0o777)
    shop.cycle()
    for number in range(MOST_FILES + 3):
        shop.write(f"top/private/{number:04}", "secret")
    shop.write("top/public/file", "open")
    (shop.source / "top/private").chmod(0o700)
    private, public = shop.mirror / "top/private", shop.mirror / "top/public"

    def exchange(path: Path) -> None:
        if path.name == f"{MOST_FILES + 1}" and private.exists():
            public.rename(public.with_name("away"))
            private.rename(public)

    shop.cycle(interfered(exchange))

    assert stat.S_IMODE(public.stat().st_mode) == 0o700 or os.listdir(public) == ["file"]
    shop.cycle()
    assert (stat.S_IMODE(public.stat().st_mode), os.listdir(public)) == (0o755, ["file"])
