"""Kinds, permissions, reserved names, and paths made fit to be shown."""

import base64
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.entry import Kind, base64_of, is_reserved, join, kept_mode, kind_of, permissions, printable
from tests.core.samples import a_file, a_folder, a_link


@pytest.mark.parametrize(
    ("type_bits", "kind"),
    [
        (stat.S_IFREG, Kind.FILE),
        (stat.S_IFDIR, Kind.FOLDER),
        (stat.S_IFLNK, Kind.SYMLINK),
        (stat.S_IFIFO, Kind.SPECIAL),
        (stat.S_IFSOCK, Kind.SPECIAL),
        (stat.S_IFBLK, Kind.SPECIAL),
        (stat.S_IFCHR, Kind.SPECIAL),
        (0, Kind.SPECIAL),
    ],
)
def test_everything_that_is_no_file_folder_or_link_is_special(type_bits: int, kind: Kind) -> None:
    assert kind_of(type_bits | 0o644) is kind


def test_an_entry_tells_its_kind_from_its_mode() -> None:
    assert [a_file().kind, a_folder().kind, a_link().kind] == [Kind.FILE, Kind.FOLDER, Kind.SYMLINK]


@given(st.integers(0, 0o7777))
def test_files_lose_setuid_and_setgid_and_folders_keep_every_bit(bits: int) -> None:
    assert kept_mode(stat.S_IFREG | bits) == bits & 0o1777
    assert kept_mode(stat.S_IFDIR | bits) == bits


@pytest.mark.parametrize(
    ("path", "reserved"),
    [
        (b".truecopy", True),
        (b"below/.truecopy", False),
        (b".truecopyright", False),
        (b".truecopy-tmp-1", True),
        (b"below/.truecopy-tmp-", True),
        (b".truecopy-tmp-1/below", False),
        (b"not.truecopy-tmp-1", False),
    ],
)
def test_only_the_state_folder_at_the_root_and_temps_anywhere_are_reserved(path: bytes, *, reserved: bool) -> None:
    assert is_reserved(path) is reserved


@pytest.mark.parametrize(
    ("mode", "shown"), [(0o100644, "644"), (0o40755, "755"), (0o102755, "2755"), (0o100000, "000")]
)
def test_permissions_are_shown_in_octal_without_a_prefix(mode: int, shown: str) -> None:
    assert permissions(mode) == shown


@given(st.binary())
def test_a_printable_path_is_one_line_without_control_characters(path: bytes) -> None:
    shown = printable(path)

    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")


@given(st.one_of(st.binary(), st.text().map(lambda text: text.encode("utf-8", "replace"))))
def test_the_bytes_of_a_path_come_back_from_what_is_shown_of_it(path: bytes) -> None:
    encoded = base64_of(path)

    assert (base64.b64decode(encoded) if encoded is not None else printable(path).encode()) == path


@pytest.mark.parametrize(
    ("path", "shown", "plain"),
    [
        (b"caf\xc3\xa9 au lait", "café au lait", True),
        (b"two\nlines", r"two\nlines", False),
        (b"two\\nlines", r"two\nlines", True),
        (b"\x1b[31mred", r"\x1b[31mred", False),
        (b"\xff", r"\xff", False),
        ("\u202egnp.exe".encode(), r"\u202egnp.exe", False),
        (b"\xc2\x9b1m", r"\x9b1m", False),
        (b"", "", True),
    ],
)
def test_what_could_fool_a_reader_is_escaped_and_told_in_base64_too(path: bytes, shown: str, *, plain: bool) -> None:
    assert printable(path) == shown
    assert (base64_of(path) is None) is plain


def test_names_are_joined_below_the_root_without_a_leading_slash() -> None:
    assert [join(b"", b"name"), join(b"folder/deeper", b"name")] == [b"name", b"folder/deeper/name"]
