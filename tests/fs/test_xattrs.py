"""Attributes beyond what is kept: a few are given, ACLs among them, and memory stays bounded."""

import errno
import os
from pathlib import Path

import pytest

from job.fs import xattrs
from job.fs.metadata import MetadataWriter
from job.fs.xattrs import MOST_BYTES, PartlyRead, read_attributes
from tests.fidelity.scope import acl

KIB = 1 << 10


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """Few file systems take a megabyte of attributes: so the limit is lower here."""
    monkeypatch.setattr(xattrs, "MOST_BYTES", 1000)
    return 1000


def test_sixteen_of_the_largest_attributes_that_linux_takes_are_kept() -> None:
    assert MOST_BYTES >= 16 * (64 * KIB + 255)


def test_attributes_up_to_the_limit_are_all_read(tmp_path: Path, small: int) -> None:
    os.setxattr(tmp_path, "user.a", bytes(small - len("user.a")))

    found = read_attributes(os.open(tmp_path, os.O_RDONLY), security=False)

    assert type(found) is dict
    assert list(found) == [b"user.a"]


def test_of_too_many_as_many_are_read_as_fit(tmp_path: Path, small: int) -> None:
    for name in "edcba":
        os.setxattr(tmp_path, f"user.{name}", bytes(small // 4))

    found = read_attributes(os.open(tmp_path, os.O_RDONLY), security=False)

    assert isinstance(found, PartlyRead)
    assert sorted(found) == [b"user.a", b"user.b", b"user.c"]


def test_an_acl_is_read_before_anything_else(tmp_path: Path, small: int) -> None:
    for name in "abcde":
        os.setxattr(tmp_path, f"user.{name}", bytes(small // 4))
    os.setxattr(tmp_path, "system.posix_acl_default", acl(7))

    found = read_attributes(os.open(tmp_path, os.O_RDONLY), security=False)

    assert found[b"system.posix_acl_default"] == acl(7)


def test_the_acl_is_read_where_the_kernel_has_no_room_for_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.setxattr(tmp_path, "system.posix_acl_access", acl(7))
    os.setxattr(tmp_path, "user.other", b"x")

    def too_long(*_: object, **__: object) -> list[str]:
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))

    monkeypatch.setattr(os, "listxattr", too_long)

    found = read_attributes(os.open(tmp_path, os.O_RDONLY), security=False)

    assert isinstance(found, PartlyRead)
    assert list(found) == [b"system.posix_acl_access"]


def test_what_is_left_out_is_noted_once_and_counted_each_time(tmp_path: Path, small: int) -> None:
    for name in "abcde":
        os.setxattr(tmp_path, f"user.{name}", bytes(small // 4))
    metadata_writer = MetadataWriter()

    metadata_writer.of_source(os.open(tmp_path, os.O_RDONLY))
    metadata_writer.of_source(os.open(tmp_path, os.O_RDONLY))

    [told] = metadata_writer.take_refusals()
    assert told.what == "source_xattr_size"
    assert told.error.startswith("3 of the source's attributes are kept: all of them are more than")
    assert metadata_writer.take_unread() == 2


def test_a_copy_that_has_all_of_them_is_not_taken_for_another(tmp_path: Path, small: int) -> None:
    source, mirror = tmp_path / "source", tmp_path / "mirror"
    for path, names in ((source, "abcde"), (mirror, "edcba")):
        path.write_text("content")
        for name in names:
            os.setxattr(path, f"user.{name}", name.encode() * (small // 4))

    metadata_writer = MetadataWriter()
    wanted = metadata_writer.of_source(os.open(source, os.O_RDONLY))

    assert metadata_writer.present(os.open(mirror, os.O_RDONLY)) == wanted
