"""A small source that moves from one generation to the next, so that a run killed anywhere has something to do."""

import os
import struct
from contextlib import suppress
from dataclasses import dataclass

from tests.faults.readability import Exposed, Person, exposed, readers_of, together
from tests.faults.rig import Rig
from tests.faults.trees import LONG_AGO_NS, Thing, remove

ACCESS_ACL = "system.posix_acl_access"


def _acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)


_NOBODY = 0xFFFFFFFF
USER_READS = _acl((1, 6, _NOBODY), (2, 4, 64_003), (4, 0, _NOBODY), (16, 4, _NOBODY), (32, 0, _NOBODY))
"""One more user may read, and the group may not, though the mode shows 640."""
GROUP_READS = _acl((1, 6, _NOBODY), (4, 0, _NOBODY), (8, 4, 64_008), (16, 4, _NOBODY), (32, 0, _NOBODY))
"""So may another group."""
PEOPLE = frozenset(
    Person(uid, frozenset(gids))
    for uid in (1000, 1001, 64_001, 64_002, 64_003, 64_010)
    for gids in ((), (0,), (1000,), (64_008,), (64_009,), (64_008, 64_009))
)
"""Owners, members of groups, and strangers."""


@dataclass
class Generations:
    """Moves the source of a rig on; what the mirror may hold at any moment is the old tree or the new one."""

    rig: Rig
    number: int = 0

    def grow(self) -> None:
        """Change contents, sizes, mode, owner, an xattr, links of both kinds; add a file and a folder; old ones go."""
        for root in (self.rig.source, self.rig.mirror):
            if (root / f"folder-{self.number}").exists():
                remove(root / f"folder-{self.number}")
                (root / f"new-{self.number}").unlink()
        self.number += 1
        source, number = self.rig.source, self.number
        (source / "edited").write_text(f"generation {number}\n" * (1 + number % 3))
        (source / "same size and times").write_text(f"generation {number:9}")
        os.utime(source / "same size and times", ns=(LONG_AGO_NS, LONG_AGO_NS))
        self._chunky(number)
        self._metadata(number)
        self._linked(number)
        self._shared(number)
        self._private(number)
        (source / "link").unlink(missing_ok=True)
        (source / "link").symlink_to(f"target-{number}")
        (source / f"new-{number}").write_text("new")
        (source / f"folder-{number}" / "below").mkdir(parents=True)
        (source / f"folder-{number}" / "below" / "file").write_text(f"below {number}")

    def watched(self, readers: "Readers") -> "Readers":
        """Take in what was written to the source since."""
        now = readers_of(self.rig.source, PEOPLE) if os.geteuid() == 0 else {}
        return Readers(self.rig, together(readers.allowed, now))

    def grow_and_watch(self) -> "Readers":
        """Grow, and remember who could read what before and after."""
        if os.geteuid() != 0:  # who alone can look everywhere, and become somebody else
            self.grow()
            return Readers(self.rig, {})
        before = readers_of(self.rig.source, PEOPLE)
        self.grow()
        return Readers(self.rig, together(before, readers_of(self.rig.source, PEOPLE)))

    def _linked(self, number: int) -> None:
        """Give one file two names; in every other generation it has a third one, which is another file's in between."""
        folder = self.rig.source / "linked"
        (folder / "below").mkdir(parents=True, exist_ok=True)
        names = folder / "one", folder / "below" / "two", folder / "below" / "three"
        for name in names:
            name.unlink(missing_ok=True)
        names[0].write_text(f"linked {number}")
        os.link(names[0], names[1])
        if number % 2:
            os.link(names[0], names[2])
        else:
            names[2].write_text(f"parted {number}")

    def _shared(self, number: int) -> None:
        """Change who may read what: every other generation closes a folder; files get other owners and ACLs."""
        folder = self.rig.source / "shared"
        (folder / "below").mkdir(parents=True, exist_ok=True)
        for name in ("letter", "below/deep", "of a group", "named"):
            (folder / name).write_text(f"{name} {number}")
        (folder / "of a group").chmod(0o640)
        (folder / "named").chmod(0o640)
        if os.geteuid() == 0:
            os.chown(folder, 64_001 + number // 2 % 2, 64_009)
            os.chown(folder / "of a group", 64_001 + number % 2, 64_008 + number % 2)
            with suppress(OSError):  # no ACLs here
                os.setxattr(folder / "named", ACCESS_ACL, GROUP_READS if number % 3 else USER_READS)
        folder.chmod(0o755 if number % 2 else 0o700)

    def _private(self, number: int) -> None:
        """Put a secret into a closed folder; in every other generation it is removed, and the folder open to all."""
        folder = self.rig.source / "private"
        (folder / "below").mkdir(parents=True, exist_ok=True)
        for secret in (folder / "secret", folder / "below" / "secret"):
            if number % 2:
                secret.write_text(f"secret {number}")
            else:
                secret.unlink()
        folder.chmod(0o700 if number % 2 else 0o755)

    @property
    def published(self) -> bool:
        """Whether the mirror shows to all what was removed from the source before its folder was opened."""
        folder = self.rig.mirror / "private"
        if self.number % 2 or not folder.stat().st_mode & 0o077:
            return False
        return (folder / "secret").exists() or (folder / "below" / "secret").exists()

    def _chunky(self, number: int) -> None:
        (self.rig.source / "sub").mkdir(exist_ok=True)
        (self.rig.source / "sub" / "chunky").write_bytes(b"%d" % (number % 10) * (2 << 20))

    def _metadata(self, number: int) -> None:
        file = self.rig.source / "sub" / "metadata only"
        if not file.exists():
            file.write_text("the same content for ever")
        file.chmod(0o640 if number % 2 else 0o604)
        os.setxattr(file, "user.generation", b"%d" % number)
        if os.geteuid() == 0:
            os.chown(file, 1000 + number % 2, 1000)


def contents(tree: dict[bytes, Thing]) -> dict[bytes, object]:
    """Give what files hold and where links point."""
    return {path: thing.content for path, thing in tree.items() if thing.kind != "d"}


@dataclass
class Readers:
    """Who may read which content: whoever could read it in the source, in this generation or the one before."""

    rig: Rig
    allowed: dict[bytes, frozenset[Person]]

    def exposed(self, *, tried: int = 0) -> list[Exposed]:
        """Give what others can read in the mirror; so many files of each person are tried."""
        return exposed(self.rig.mirror, self.allowed, PEOPLE, tried=tried) if os.geteuid() == 0 else []
