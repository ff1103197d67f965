"""Adoption: see that a mirror folder may be used before anything is done in it; another one is set aside, whole.

Whoever may write to a mirror folder can give a name in it to another folder, and whoever may write to a source folder
can take over a name that another user gave up. What the mirror has under such a name is not theirs.
"""

import errno
import os
import stat
from contextlib import suppress

from job.core.adoption import Left, Standing, Status, why_foreign
from job.core.capabilities import Capabilities
from job.core.entry import STATE_FOLDER, Kind, printable
from job.core.events import EntrySetAside
from job.core.mounted import ByMount
from job.files.trail import Trail
from job.tasks.bench import Assignment, Bench
from job.tasks.deeds import make_folder
from job.tasks.versions import Versions


def standing_of(mirror: Capabilities) -> Standing:
    """Give what this process can do to folders on a file system."""
    groups = frozenset((os.getegid(), *os.getgroups()))
    return Standing(os.geteuid(), groups, owners=mirror.owners, modes=mirror.modes)


class HomeMovedError(OSError):
    """A folder of the mirror is Truecopy's own, under an ordinary name."""

    def __init__(self, path: bytes) -> None:
        name, home = printable(path), printable(STATE_FOLDER)
        super().__init__(
            errno.EEXIST,
            f"the mirror's {name} is Truecopy's own folder {home}, which somebody renamed: rename it to {home} again, "
            f"and look who may write to the mirror's root",
        )


class Adoption:
    """Judges folders of one mirror. Use it with `contextlib.closing`."""

    def __init__(self, bench: Bench, work: Assignment) -> None:
        self._home = bench.home
        self._about = {"cycle_id": work.cycle_id, "pair": work.pair.name}
        self._sources, self._mirrors = Trail(bench.source_root), Trail(bench.mirror_root)
        self._versions = Versions(bench, work)
        others = {each.point: standing_of(each.mirror) for each in bench.mounted}
        self._standing = ByMount(standing_of(bench.mirror), others)

    def close(self) -> None:
        """Close what was opened."""
        self._sources.close()
        self._mirrors.close()

    def standing(self, path: bytes) -> Standing:
        """Give what can be done to a folder of the mirror."""
        return self._standing.at(path)

    def check_not_home(self, path: bytes, seen: os.stat_result) -> None:
        """Insist that a mirror folder is not the one in which Truecopy keeps its own. Raises `OSError`."""
        if (seen.st_dev, seen.st_ino) == self._home and path != STATE_FOLDER:
            raise HomeMovedError(path)

    def why_not(self, path: bytes, left: Left) -> str:
        """Say why the mirror's folder at a path must not be used; empty if it may be, or is no folder.

        Raises `OSError` if it is none that may be moved either.
        """
        parent, _, name = path.rpartition(b"/")
        try:
            mirror = os.stat(name, dir_fd=self._mirrors.goto(parent), follow_symlinks=False)
            source = os.stat(name, dir_fd=self._sources.goto(parent), follow_symlinks=False)
        except OSError:
            return ""  # gone since, or it cannot be reached: its visit tells
        if not stat.S_ISDIR(mirror.st_mode):
            return ""
        self.check_not_home(path, mirror)
        return self.why_foreign(path, left, mirror, source)

    def why_foreign(self, path: bytes, left: Left, mirror: Status, source: Status) -> str:
        """Say the same of a folder whose stats are known."""
        return why_foreign(left, mirror, source, self.standing(path))

    def make_anew(self, path: bytes, why: str) -> EntrySetAside | None:
        """Set the mirror's folder aside and make a new one; nothing is told of an empty one. Raises `OSError`."""
        parent, _, name = path.rpartition(b"/")
        folder = self._mirrors.goto(parent)
        before, told = os.fstat(folder), None
        if not self._versions.removed(name, folder):
            place = self._versions.take(path, folder)
            told = EntrySetAside(**self._about, path=path, kind=Kind.FOLDER, version=printable(place), reason=why)
        make_folder(name, folder)
        with suppress(OSError):
            os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
        return told
