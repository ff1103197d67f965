"""Rights come before contents: in mid-cycle, too, nobody reads in the mirror what they could not in the source."""

import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from job.core.outcome import Drift, Failure, Result
from job.engine.context import PairContext
from job.engine.volumes import Tools
from job.events.pair import FileUpdated, MetadataNotKept
from job.fs.copier import Copier
from tests.engine.test_tree_compare import told as differences
from tests.engine.workshop import NOBODY, Told, Workshop, as_nobody, changed, with_sync, with_tools
from tests.faults.readability import Exposed, Person, exposed, readers_of, together
from tests.faults.tampering import mounted

pytestmark = pytest.mark.needs_root

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
ALICE, BOB, STAFF, OTHERS = 64_001, 64_002, 64_008, 64_009
PEOPLE = [Person(uid, frozenset(gids)) for uid in (ALICE, BOB, 64_010) for gids in ((), (STAFF,), (OTHERS,))]
_NO_ID = 0xFFFFFFFF


def acl(user: int, group: int = 0, other: int = 0, mask: int = 7) -> bytes:
    """Give an ACL in the kernel's form: BOB may do what `user` says."""
    entries = [(1, 7, _NO_ID), (2, user, BOB), (4, group, _NO_ID), (16, mask, _NO_ID), (32, other, _NO_ID)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def not_kept(found: Told) -> dict[str, str]:
    return {event.what: event.error for event in found.of(MetadataNotKept)}


@dataclass
class Change:
    """A change of the source, and what others can read of it in the mirror while the cycle brings it over."""

    shop: Workshop
    allowed: dict[bytes, frozenset[Person]]

    def exposed(self) -> list[Exposed]:
        return exposed(self.shop.mirror, self.allowed, PEOPLE)

    def cycle(self) -> Told:
        """Run a cycle, and look before the copies get their names, and after."""
        seen: list[Exposed] = []
        temps: list[Path] = []

        def look() -> None:
            seen.extend(self.exposed())
            temps.extend(self.shop.temps)

        found = self.shop.cycle(with_sync(look))
        assert temps, "nothing was looked at"
        assert not seen
        assert not self.exposed()
        return found


def change(shop: Workshop, *steps: Callable[[Path], object], people: list[Person] = PEOPLE) -> Change:
    """Change `d` in the source, give it new files, and remember who could read what before and after."""
    for folder in (shop.base, shop.source, shop.mirror):
        folder.chmod(0o755)
    before = readers_of(shop.source, people)
    for step in steps:
        step(shop.source / "d")
    for name in ("d/new", "d/below/new", "d/old"):
        shop.write(name, f"new {name}")
    return Change(shop, together(before, readers_of(shop.source, people)))


@pytest.fixture
def mirrored(shop: Workshop) -> Workshop:
    """A mirror of a folder `d` that all may enter, with a folder in it."""
    shop.write("d/old", "old")
    shop.write("d/below/old", "below")
    shop.cycle()
    return shop


def given(uid: int, gid: int, bits: int) -> Callable[[Path], None]:
    def give(path: Path) -> None:
        os.chown(path, uid, gid)
        path.chmod(bits)

    return give


CLOSING: dict[str, Callable[[Path], None]] = {
    "mode": given(0, 0, 0o700),
    "owner": given(ALICE, 0, 0o700),
    "group": given(0, STAFF, 0o750),
    "ACL": lambda path: os.setxattr(path, ACCESS, acl(0, 5, 5)),
    "shut out group": given(0, STAFF, 0o705),
}


@pytest.mark.parametrize("how", CLOSING)
def test_a_folder_is_closed_before_anything_is_put_into_it(mirrored: Workshop, how: str) -> None:
    found = change(mirrored, CLOSING[how]).cycle()

    assert found.result is Result.SUCCESS
    assert not differences(mirrored)


def test_a_folder_that_gets_another_owner_belongs_to_neither_in_between(mirrored: Workshop) -> None:
    os.chown(mirrored.source / "d", ALICE, STAFF)
    (mirrored.source / "d").chmod(0o700)
    mirrored.cycle()
    mirrored.write("d/new")
    os.chown(mirrored.source / "d", BOB, STAFF)
    owners: list[int] = []

    mirrored.cycle(with_sync(lambda: owners.append((mirrored.mirror / "d").stat().st_uid)))

    assert owners[0] == 0
    assert (mirrored.mirror / "d").stat().st_uid == BOB


def test_a_folder_above_is_closed_before_what_is_new_below_it(mirrored: Workshop) -> None:
    mirrored.options |= {"workers": 3, "workers_from": 0}
    made = change(mirrored, CLOSING["mode"])
    for number in range(40):
        mirrored.write(f"d/below/{number}/deep", f"deep {number}")
    made.allowed = together(made.allowed, readers_of(mirrored.source, PEOPLE))

    for steps in (2, 4, 6, 9, 13):
        mirrored.killed_cycle(steps)
        assert not made.exposed()

    assert mirrored.cycle().result is Result.SUCCESS
    assert not made.exposed()


def test_a_huge_folder_is_closed_before_its_parts_are_begun(mirrored_huge: Workshop) -> None:
    shop = mirrored_huge
    (shop.source / "crowd").chmod(0o755)
    shop.cycle()
    (shop.source / "crowd").chmod(0o700)
    shop.write("crowd/secret", "secret")
    modes: list[int] = []

    shop.cycle(with_sync(lambda: modes.append(mode(shop.mirror / "crowd"))))

    assert set(modes) == {0o700}


def test_a_huge_folder_is_closed_by_workers_too(mirrored_huge: Workshop) -> None:
    shop = mirrored_huge
    for folder in (shop.base, shop.source, shop.mirror):
        folder.chmod(0o755)
    (shop.source / "crowd").chmod(0o755)
    shop.cycle()
    before = readers_of(shop.source, PEOPLE)
    (shop.source / "crowd").chmod(0o700)
    shop.write("crowd/secret", "secret")
    made = Change(shop, together(before, readers_of(shop.source, PEOPLE)))

    for steps in (3, 6, 10):
        shop.killed_cycle(steps)
        assert not made.exposed()


def test_a_new_folder_is_closed_until_it_is_complete(shop: Workshop) -> None:
    shop.write("d/new")
    modes: list[int] = []

    shop.cycle(with_sync(lambda: modes.append(mode(shop.mirror / "d"))))

    assert modes[0] == 0o700
    assert mode(shop.mirror / "d") == mode(shop.source / "d")


def test_a_file_is_closed_before_its_new_content_is_read(mirrored: Workshop) -> None:
    (mirrored.source / "d/old").chmod(0o600)
    mirrored.write("d/old", "new and private")
    modes: list[int] = []

    mirrored.cycle(with_sync(lambda: modes.append(mode(mirrored.mirror / "d/old"))))

    assert modes[0] == 0o600


def test_the_mode_of_a_file_that_cannot_be_read_is_followed(open_shop: Workshop) -> None:
    for name in ("same", "edited", "opened"):
        open_shop.write(name, "x").chmod(0o644)
    as_nobody(open_shop)
    (open_shop.source / "edited").write_text("other")
    for name in ("same", "edited"):
        (open_shop.source / name).chmod(0o600)

    found = as_nobody(open_shop)

    assert found.failed == {b"same": Failure.PERMISSION, b"edited": Failure.PERMISSION}
    assert [mode(open_shop.mirror / name) for name in ("same", "edited", "opened")] == [0o600, 0o600, 0o644]
    assert (open_shop.mirror / "edited").read_text() == "x"


def test_an_acl_of_a_file_that_cannot_be_read_is_followed(open_shop: Workshop) -> None:
    path = open_shop.write("file", "x")
    path.chmod(0o644)
    as_nobody(open_shop)
    path.write_text("other")
    os.setxattr(
        path,
        ACCESS,
        struct.pack("<I", 2)
        + b"".join(
            struct.pack("<HHI", *each)
            for each in ((1, 6, _NO_ID), (2, 0, NOBODY), (4, 4, _NO_ID), (16, 4, _NO_ID), (32, 4, _NO_ID))
        ),
    )

    found = as_nobody(open_shop)

    assert found.failed == {b"file": Failure.PERMISSION}
    assert mode(open_shop.mirror / "file") == 0o600


def test_the_mode_of_a_folder_that_cannot_be_read_is_followed(open_shop: Workshop) -> None:
    for name in ("private/file", "open/file"):
        open_shop.write(name, "x")
    as_nobody(open_shop)
    (open_shop.source / "private").chmod(0o700)

    found = as_nobody(open_shop)

    assert found.failed == {b"private": Failure.PERMISSION}
    assert [mode(open_shop.mirror / name) for name in ("private", "open")] == [0o700, 0o755]
    (open_shop.source / "private").chmod(0o755)
    assert as_nobody(open_shop).result is Result.SUCCESS
    assert mode(open_shop.mirror / "private") == 0o755


def test_a_hard_link_outside_keeps_its_mode_where_a_copy_is_closed(mirrored: Workshop, tmp_path: Path) -> None:
    os.link(mirrored.mirror / "d/old", tmp_path / "outside")
    (mirrored.source / "d/old").chmod(0o600)

    mirrored.cycle()

    assert mode(tmp_path / "outside") == 0o644
    assert mode(mirrored.mirror / "d/old") == 0o600


# What cannot be kept --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"), [(0o640, 0o600), (0o664, 0o644), (0o604, 0o600), (0o644, 0o644), (0o447, 0o444)]
)
def test_rights_of_a_group_that_is_not_kept_go_to_no_other_group(open_shop: Workshop, before: int, after: int) -> None:
    path = open_shop.write("file")
    os.chown(path, NOBODY, STAFF)
    path.chmod(before)

    found = as_nobody(open_shop)

    assert mode(open_shop.mirror / "file") == after
    closed = "the owner or group could not be kept, and nobody else gets the rights that were theirs"
    assert not_kept(found).get("mode", "") == ("" if before == after else closed)
    assert found.result is Result.SUCCESS
    assert as_nobody(open_shop).tally.updated == 0


def test_an_owner_who_was_shut_out_is_not_let_in_as_one_of_the_others(open_shop: Workshop) -> None:
    path = open_shop.write("file")
    os.chown(path, ALICE, NOBODY)
    path.chmod(0o266)  # who reads it may do so by being one of the others

    as_nobody(open_shop)

    assert mode(open_shop.mirror / "file") & 0o044 == 0


def test_users_whom_an_acl_names_keep_their_rights_where_the_group_is_not_kept(open_shop: Workshop) -> None:
    path = open_shop.write("file")
    os.chown(path, NOBODY, STAFF)
    os.setxattr(path, ACCESS, acl(4, 6, 0, 6))

    as_nobody(open_shop)

    assert os.getxattr(open_shop.mirror / "file", ACCESS) == acl(4, 0, 0, 6)
    assert as_nobody(open_shop).tally.updated == 0


def test_without_acls_the_group_has_its_own_rights_and_not_the_mask(shop: Workshop) -> None:
    with mounted("ramfs", shop.mirror, "-t", "ramfs"):
        shop.mirror.chmod(0o755)
        file = shop.write("d/file")
        for path in (file, file.parent):
            os.chown(path, ALICE, STAFF)
            os.setxattr(path, ACCESS, acl(7, 0, 0, 7))
            assert mode(path) & 0o070 == 0o070

        found = shop.cycle()

        assert [mode(shop.mirror / name) & 0o077 for name in ("d", "d/file")] == [0, 0]
        assert "acl" in not_kept(found)
        assert not differences(shop)
        assert shop.cycle().tally.updated == 0


# ACLs that are given down ---------------------------------------------------------------------------------------------


class SlippedIn(Copier):
    """A copier in whose way somebody gives the mirror's folder a default ACL, just before the first copy."""

    def __init__(self, real: Copier, folder: Path) -> None:
        self.__dict__ = real.__dict__
        self.folder: Path | None = folder

    def copy(self, *arguments: Any) -> Any:
        if self.folder is not None:
            os.setxattr(self.folder, DEFAULT, acl(7, 7, 7))
            self.folder = None
        return super().copy(*arguments)


def test_a_default_acl_that_is_slipped_in_gives_nothing_to_the_copies(mirrored: Workshop) -> None:
    for path in (mirrored.source / "d", mirrored.source / "d/old"):
        os.chown(path, BOB, BOB)
    mirrored.cycle()
    for number in range(3):
        mirrored.write(f"d/new {number}").chmod(0o640)

    def slip(context: PairContext) -> PairContext:
        def exchange(tools: Tools) -> Tools:
            return tools._replace(copier=SlippedIn(tools.copier, mirrored.mirror / "d"))

        return with_tools(context, exchange)

    mirrored.cycle(changed(slip))

    assert [os.listxattr(mirrored.mirror / f"d/new {number}") for number in range(3)] == [[], [], []]
    assert os.listxattr(mirrored.mirror / "d") == []


@pytest.mark.parametrize("name", ["d", "d/old"])
def test_an_acl_that_was_given_in_the_mirror_is_found_and_taken_away(mirrored: Workshop, name: str) -> None:
    os.setxattr(mirrored.mirror / name, ACCESS, acl(7, 5, 5))

    found = mirrored.cycle()

    assert os.listxattr(mirrored.mirror / name) == []
    assert mode(mirrored.mirror / name) == mode(mirrored.source / name)
    if name == "d/old":
        assert found.drift == {Drift.METADATA: 1}
        assert [event.path for event in found.of(FileUpdated)] == [b"d/old"]
