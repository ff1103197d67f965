"""The readability oracle agrees with the kernel, and finds what is exposed."""

import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.readability import (
    Person,
    exposed,
    files_below,
    people_of,
    readers_of,
    really_read,
    together,
)

pytestmark = pytest.mark.needs_root

ONE, TWO, GROUP = 64_001, 64_002, 64_009
_NOBODY = 0xFFFFFFFF
rights = st.integers(0, 7)


@pytest.fixture(autouse=True)
def _open_to_all(tmp_path: Path) -> None:
    """pytest makes its folders for root alone."""
    tmp_path.chmod(0o755)


def acl(owner: int, group: int, other: int, mask: int, named: list[tuple[int, int, int]]) -> bytes:
    """Write an ACL as the kernel takes it; `named` gives tag (2 user, 8 group), rights and id."""
    entries = [
        (1, owner, _NOBODY),
        *sorted(each for each in named if each[0] == 2),
        (4, group, _NOBODY),
        *sorted(each for each in named if each[0] == 8),
        (16, mask, _NOBODY),
        (32, other, _NOBODY),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, right, who) for tag, right, who in entries)


named = st.lists(
    st.tuples(st.sampled_from([2, 8]), rights, st.sampled_from([ONE, TWO, GROUP])),
    max_size=3,
    unique_by=lambda each: (each[0], each[2]),
)


@given(st.integers(0, 0o777), st.integers(0, 0o777), st.none() | st.tuples(rights, rights, rights, rights, named))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_computed_is_what_the_kernel_does(
    tmp_path: Path, folder_mode: int, mode: int, listed: tuple[int, int, int, int, list[tuple[int, int, int]]] | None
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o700)
    file = folder / "file"
    file.unlink(missing_ok=True)
    file.write_text("content")
    os.chown(folder, TWO, GROUP)
    os.chown(file, ONE, GROUP)
    file.chmod(mode)
    if listed is not None:
        os.setxattr(file, "system.posix_acl_access", acl(*listed))
    folder.chmod(folder_mode)

    people = people_of(tmp_path)
    [found] = files_below(tmp_path, people)

    assert {Person(ONE), Person(TWO, frozenset({GROUP}))} <= people
    read = really_read(tmp_path, {person: [found.path] for person in people})
    assert found.readers == {each for each in people if read[each]}


def test_a_content_that_somebody_may_not_know_is_found_under_whatever_name(tmp_path: Path) -> None:
    source, mirror = tmp_path / "source", tmp_path / "mirror"
    (source / "private").mkdir(parents=True)
    (source / "private" / "secret").write_text("secret")
    (source / "private").chmod(0o700)
    mirror.mkdir()
    (mirror / "anything").write_text("secret")
    people = people_of(source, mirror)

    found = exposed(mirror, readers_of(source, people), people, tried=1)

    assert {each.path for each in found} == {b"anything"}
    assert {each.person for each in found} == people


def test_nobody_may_read_half_of_a_content(tmp_path: Path) -> None:
    (tmp_path / "half").write_text("sec")

    found = exposed(tmp_path, {}, [Person(ONE)])

    assert [each.why for each in found] == ["content unknown in the source"]


def test_what_could_be_read_at_one_of_two_times_is_allowed(tmp_path: Path) -> None:
    source, people = tmp_path / "source", [Person(ONE)]
    source.mkdir()
    (source / "file").write_text("content")
    before = readers_of(source, people)
    (source / "file").chmod(0o600)
    after = readers_of(source, people)
    (source / "file").chmod(0o644)

    assert exposed(source, before, people) == []
    assert exposed(source, together(before, after), people) == []
    assert exposed(source, after, people) != []
