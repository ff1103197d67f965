"""Which names a mirror can hold, and which it takes for the same."""

import pytest

from job.core.file_systems import Capabilities, NameRules, decode_capabilities
from tests.core import samples

FOLDING = NameRules(Capabilities(case_sensitive=False))
HFS = NameRules(Capabilities(case_sensitive=False, normalises=True, any_bytes=False))
EXFAT = NameRules(Capabilities(file_system="exfat", case_sensitive=False, any_bytes=False, forbidden=":?\x01"))
SERVER = NameRules(Capabilities(trailing=False))
NFC, NFD = "Caf\u00e9".encode(), "Cafe\u0301".encode()


@pytest.mark.parametrize(
    ("name_rules", "one", "other"),
    [
        (FOLDING, b"README", b"readme"),
        (FOLDING, "\u00c9".encode(), "\u00e9".encode()),
        (HFS, NFC, NFD),
        (HFS, NFC.upper(), NFD),
    ],
)
def test_names_that_the_mirror_takes_for_one_are_both_told(name_rules: NameRules, one: bytes, other: bytes) -> None:
    found = name_rules.faults([one, b"between", other])

    assert found.keys() == {one, other}
    assert all("for one name; rename one of them" in why for why in found.values())


@pytest.mark.parametrize(
    ("name_rules", "one", "other"),
    [
        (FOLDING, NFC, NFD),
        (FOLDING, "Stra\u00dfe".encode(), b"Strasse"),
        (FOLDING, b"\xffa", b"\xffA"),
        (SERVER, b"a", b"A"),
    ],
)
def test_other_names_are_two(name_rules: NameRules, one: bytes, other: bytes) -> None:
    assert name_rules.faults([one, other]) == {}


@pytest.mark.parametrize(
    ("name_rules", "name", "why"),
    [
        (EXFAT, b"a:b?", "the mirror's file system (exfat) holds no names with : ?"),
        (EXFAT, b"a\x01b", "holds no names with '\\x01'"),
        (EXFAT, b"\xff", "holds names in UTF-8 only"),
        (SERVER, b"dot.", "that end with a dot or a space"),
        (SERVER, b"space ", "that end with a dot or a space"),
    ],
)
def test_names_that_the_mirror_cannot_hold_are_refused_with_a_reason(
    name_rules: NameRules, name: bytes, why: str
) -> None:
    assert why in name_rules.refusal(name)
    assert name_rules.faults([name, b"fine"]).keys() == {name}


def test_entries_of_the_mirror_are_given_under_the_sources_names() -> None:
    held = {name: samples.a_file()._replace(name=name) for name in (NFD, b"OTHER", b"stranger")}

    found = HFS.matched([NFC, b"other"], held)

    assert {name: entry.name for name, entry in found.items()} == {name: name for name in (NFC, b"other", b"stranger")}
    assert HFS.matched([NFD, b"OTHER"], held) is held


def test_a_spelling_is_another_one_only_if_more_than_the_normal_form_differs() -> None:
    assert not NameRules.respelled(NFC, NFD)
    assert NameRules.respelled(b"README", b"readme")
    assert NameRules.respelled(b"\xffa", b"\xffA")


def test_capabilities_survive_being_stored_and_nothing_else_is_believed() -> None:
    some = Capabilities(file_system="exfat", symlinks=False, mtime_grain_ns=10**9)

    assert decode_capabilities(some._asdict()) == some
    hostiles: list[object] = [None, [], {}, {**some._asdict(), "more": 1}, {**some._asdict(), "symlinks": 1}]
    for hostile in hostiles:
        with pytest.raises(ValueError, match="not "):
            decode_capabilities(hostile)


def test_what_a_mirror_lacks_is_told_in_words() -> None:
    assert Capabilities().lacks == []
    assert Capabilities(
        symlinks=False, forbidden=":\x01", mtime_grain_ns=2 * 10**9, largest_file=(1 << 32) - 1
    ).lacks == [
        "symlinks",
        "names with : '\\x01'",
        "times finer than 2 s",
        "files of more than 4,294,967,295 bytes",
    ]
    assert Capabilities().options_bytes == b"" != Capabilities(acls=False).options_bytes
