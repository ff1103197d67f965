"""Attributes that cannot be listed or read: the content is copied all the same, with a warning and a count."""

import errno
import os
from collections.abc import Iterator

import pytest

from job.core.outcome import Result
from job.events.pair import MetadataNotKept
from job.fs import xattrs
from tests.engine.test_tree_compare import told
from tests.engine.workshop import Told, Workshop
from tests.fidelity.foreign import NAS, nas
from tests.fidelity.nature import Nature

pytestmark = [*NAS, pytest.mark.needs_root]


def unread(found: Told) -> list[str]:
    return [event.error for event in found.of(MetadataNotKept) if event.what == "source_xattr"]


@pytest.fixture
def unlistable(shop: Workshop) -> Iterator[Workshop]:
    """A source that answers with an I/O error when attributes are listed."""
    with nas(shop.source, Nature(refuse={"listxattr": errno.EIO})):
        shop.write("top")
        shop.write("folder/inner")
        (shop.source / "link").symlink_to("top")
        yield shop


def test_all_contents_are_copied_with_one_warning_and_a_count(unlistable: Workshop) -> None:
    first, second = unlistable.cycle(), unlistable.cycle()

    assert first.result is second.result is Result.SUCCESS
    assert set(first.copied) == {b"top", b"folder/inner", b"link"}
    assert unread(first) == ["the source's attributes cannot be read: Input/output error"]
    assert first.tally.attributes_unread >= 4
    assert not second.copied


def test_workers_copy_them_too(unlistable: Workshop) -> None:
    unlistable.options |= {"workers": 3, "workers_from": 0}

    found = unlistable.cycle()

    assert found.result is Result.SUCCESS
    assert len(unread(found)) == 1


def test_contents_that_are_always_compared_are_compared(unlistable: Workshop) -> None:
    unlistable.options["compare"] = "checksum"
    unlistable.cycle()

    found = unlistable.cycle()

    assert found.result is Result.SUCCESS
    assert not found.copied


def test_a_comparison_names_it_once_and_finds_the_mirror_right(unlistable: Workshop) -> None:
    unlistable.cycle()

    assert list(told(unlistable).values()) == ["unread"]


def test_the_mirror_keeps_the_attributes_that_are_unknown(shop: Workshop) -> None:
    with nas(shop.source, Nature(refuse={"listxattr": errno.EIO})):
        shop.write("file").chmod(0o600)
        shop.cycle()
        os.setxattr(shop.mirror / "file", "user.kept", b"from before")
        (shop.source / "file").chmod(0o640)

        found = shop.cycle()

        assert found.result is Result.SUCCESS
        assert os.getxattr(shop.mirror / "file", "user.kept") == b"from before"
        assert (shop.mirror / "file").stat().st_mode & 0o777 == 0o640


def test_one_attribute_that_cannot_be_read_does_not_keep_the_others_away(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write("file")
    os.setxattr(shop.source / "file", "user.good", b"1")
    os.setxattr(shop.source / "file", "user.bad", b"2")
    real = xattrs.read_attribute

    def broken(target: xattrs.Target, name: str | bytes) -> bytes:
        if name == "user.bad":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(target, name)

    monkeypatch.setattr(xattrs, "read_attribute", broken)

    found = shop.cycle()

    assert found.result is Result.SUCCESS
    assert len(unread(found)) == 1
    assert os.getxattr(shop.mirror / "file", "user.good") == b"1"


def test_a_mirror_that_answers_with_errors_gets_the_contents_too(shop: Workshop) -> None:
    shop.write("file")
    os.setxattr(shop.source / "file", "user.lost", b"1")
    refuse = dict.fromkeys(("listxattr", "setxattr", "getxattr"), errno.EIO)
    with nas(shop.mirror, Nature(refuse=refuse)):
        found = shop.cycle()

        assert found.result is Result.SUCCESS
        assert (shop.mirror / "file").read_text() == "content"
        assert [event.what for event in found.of(MetadataNotKept)] == ["xattr"]


def test_an_entry_with_more_attributes_than_are_kept_is_copied_with_a_warning(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xattrs, "MOST_BYTES", 1000)
    for path in (shop.write("file"), shop.write("folder/inner").parent):
        for name in "abcde":
            os.setxattr(path, f"user.{name}", name.encode() * 300)

    first, second = shop.cycle(), shop.cycle()

    assert first.result is second.result is Result.SUCCESS
    assert [event.what for event in first.of(MetadataNotKept)] == ["source_xattr_size"]
    assert first.tally.attributes_unread >= 2
    assert os.listxattr(shop.mirror / "file") == ["user.a", "user.b", "user.c"]
    assert not second.copied
    assert list(told(shop).values()) == ["unread"]
