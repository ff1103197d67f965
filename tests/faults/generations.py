"""A small source that moves from one generation to the next, so that a run killed anywhere has something to do."""

import os
from dataclasses import dataclass

from tests.faults.rig import Rig
from tests.faults.trees import LONG_AGO_NS, Thing, remove


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
        self._private(number)
        (source / "link").unlink(missing_ok=True)
        (source / "link").symlink_to(f"target-{number}")
        (source / f"new-{number}").write_text("new")
        (source / f"folder-{number}" / "below").mkdir(parents=True)
        (source / f"folder-{number}" / "below" / "file").write_text(f"below {number}")

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
