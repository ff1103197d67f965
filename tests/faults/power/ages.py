"""A source that goes through ages while the disk of its mirror is recorded, and what was acknowledged when."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tests.faults.generations import Generations
from tests.faults.power.disk_rig import DiskRig
from tests.faults.power.disks import Served
from tests.faults.rig import PATIENCE, until
from tests.faults.trees import Tree, remove, tree_of

CROWD = 20
IN_A_FOLDER = b"in it"
"""Is the name of what is in a folder that becomes something else: it goes where older versions are kept."""
WORKERS = (1, 3)
"""By turns, so many processes copy."""


class Growth(Generations):
    """Generations with a crowd of files that are all replaced, and with names that change their type."""

    def grow(self) -> None:
        """Go on to the next generation."""
        super().grow()
        crowd = self.rig.source / "crowd"
        crowd.mkdir(exist_ok=True)
        for each in range(CROWD):
            (crowd / f"{each:02}").write_text(f"age {self.number} of {each}\n" * (1 + each * each))
        for turn in range(3):
            self._turn(self.rig.source / "sub" / f"turning {turn}", (self.number + turn) % 3)

    def _turn(self, name: Path, kind: int) -> None:
        if name.is_dir() and not name.is_symlink():
            remove(name)
        name.unlink(missing_ok=True)
        if kind == 0:
            name.write_text(f"a file in age {self.number}")
        elif kind == 1:
            name.symlink_to(f"age-{self.number}")
        else:
            name.mkdir()
            (name / os.fsdecode(IN_A_FOLDER)).write_text(f"in a folder in age {self.number}")


@dataclass(frozen=True)
class Age:
    """What the source was, and how long the record was when what became known of its copy."""

    tree: Tree
    born: dict[bytes, int]
    """When each entry of the source was changed last, by the kernel's word."""
    began: int
    """Before this nobody had seen it."""
    linked: list[bytes]
    """Names of one file."""
    told: dict[bytes, int]
    """When a file was told to be copied."""
    ended: int
    """When the run had exited."""
    code: int
    memory: Path
    """A copy of what was remembered of the mirror when the run had exited."""


@dataclass
class History:
    """All ages that were recorded, the first one first."""

    ages: list[Age] = field(default_factory=list)

    @property
    def exits(self) -> Sequence[int]:
        return [age.ended for age in self.ages]

    def remembered(self, size: int) -> Path | None:
        """Give what was remembered of the mirror when the record had such a size; None for nothing."""
        return next((age.memory for age in reversed(self.ages) if age.ended <= size), None)

    @cached_property
    def paths(self) -> set[bytes]:
        """Everything that was ever in the source."""
        return {path for age in self.ages for path in age.tree}

    def newest(self, size: int) -> int:
        """Tell the last age that may have been seen when the record had such a size; -1 if there was none."""
        return max((number for number, age in enumerate(self.ages) if age.began < size), default=-1)

    def indexed(self, path: bytes, size: int) -> int:
        """Tell the last age of a path that had to be in the index by then; -1 if none had to, or the source lost it.

        Names that share a file, or did, are told when they are there; the index has them with their folders' next
        visit, in the same run.
        """
        shares = any(path in age.linked for age in self.ages)
        return self._latest(path, size, lambda age: not shares and age.told.get(path, size + 1) <= size)

    def acknowledged(self, path: bytes, size: int) -> int:
        """Tell the last age of a path that was acknowledged by then, by a line or by an exit; -1 as above."""
        return self._latest(path, size, lambda age: age.told.get(path, size + 1) <= size)

    def _latest(self, path: bytes, size: int, is_known: Callable[[Age], bool]) -> int:
        for number in range(self.newest(size), -1, -1):
            age = self.ages[number]
            if path not in age.tree:
                return -1
            if age.ended <= size or is_known(age):
                return number
        return -1

    def at_rest(self, size: int) -> int | None:
        """Tell the age that was acknowledged while nothing went on; None if something did."""
        newest = self.newest(size)
        return newest if newest >= 0 and self.ages[newest].ended <= size else None


def record_ages(rig: DiskRig, served: Served, count: int) -> History:
    """Back a growing source up to a disk that is recorded."""
    growth, history = Growth(rig), History()
    for number in range(count):
        rig.configure(workers=WORKERS[number % len(WORKERS)], workers_from=0)
        began = served.position
        growth.grow()
        history.ages.append(_lived(rig, served, began))
    return history


def _lived(rig: DiskRig, served: Served, began: int) -> Age:
    tree, born, told = tree_of(rig.source), _born(rig.source), dict[bytes, int]()
    with rig.started("run", "--once") as running:

        def is_over() -> bool:
            over = running.process.poll() is not None
            lines = running.lines
            position = served.position  # after the lines: it was no longer when they were told
            for line in lines:
                if line["event"] == "file_copied":
                    told.setdefault(line["path"].encode(), position)
            return over

        until(is_over)
        code = running.process.wait(PATIENCE)
    memory = rig.base / f"memory {began}"
    shutil.copytree(rig.memory, memory)
    return Age(tree, born, began, _linked(rig.source), told, served.position, code, memory)


def _linked(root: Path) -> list[bytes]:
    return [
        str(each.relative_to(root)).encode() for each in root.rglob("*") if each.is_file() and each.lstat().st_nlink > 1
    ]


def _born(root: Path) -> dict[bytes, int]:
    return {str(each.relative_to(root)).encode(): each.lstat().st_ctime_ns for each in root.rglob("*")}
