"""The versions of one batch: made before its renames, taken back where a rename fails, reported after them."""

import os
import stat
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from job.core.entry import join
from job.core.outcome import Failure, failure_of
from job.core.versions import VersionsDone
from job.engine.brake.holder import Holder
from job.engine.context import PairContext, PairRun
from job.engine.copy.finish_folder import Work
from job.engine.messages import NOTHING_GIVEN_UP, GivenUp
from job.engine.versions.keeping import Leaving, Version, VersionKeeper, versions_done

if TYPE_CHECKING:
    from job.engine.versions.give_up import Reclaimer
    from job.events.base import Event

NOT_KEPT = "its old content cannot be kept in the versions, and stays"
Replaced = tuple[Work, list[Leaving], bool]
"""Contents of one folder that are to be replaced, and whether each is known to have one name only."""


class KeptVersions:
    """Keeps what the renames of one batch replace."""

    def __init__(self, context: PairContext, run: PairRun, keeper: VersionKeeper, holder: Holder) -> None:
        self._context, self._run, self._keeper, self._holder = context, run, keeper, holder
        self._reclaimer: Reclaimer | None = None
        self._made: dict[tuple[int, bytes], tuple[Work, Version]] = {}
        """By `id` of the work, and name."""
        self._intended: dict[bytes, tuple[Work, Version]] = {}
        """By path in the mirror: entries that are moved to the versions when they are replaced."""
        self._is_incomplete = False

    @property
    def any(self) -> bool:
        """Whether any version was made since the last `take`."""
        return bool(self._made)

    def keep(
        self, replaced: Iterable[Replaced], enter: Callable[[Work], int]
    ) -> list[tuple[Work, dict[bytes, OSError]]]:
        """Make versions of contents; return, by folder, the errors of those that must not be replaced therefore.

        `enter` opens the mirror folder of a work; where it fails, the renames fail, too.
        """
        replaced = list(replaced)
        if not replaced:
            return []
        while True:
            failed = self._keep(replaced, enter)
            full = [each for _, errors in failed for each in errors.values() if failure_of(each) is Failure.NO_SPACE]
            if not full or not self.reclaim(self._context.mirror_root, 0):
                return failed

    def _keep(self, replaced: list[Replaced], enter: Callable[[Work], int]) -> list[tuple[Work, dict[bytes, OSError]]]:
        waiting = [each for each in map(self._not_yet_kept, replaced) if each[1]]
        if not waiting:
            return []
        if not self._keeper.is_on:
            self._is_incomplete = True
            return []
        failed: list[tuple[Work, dict[bytes, OSError]]] = []
        try:
            with self._keeper.keeping():
                for work, leaving, alone in waiting:
                    failed.append((work, self._keep_in_folder(work, leaving, enter, alone=alone)))
        except OSError as error:
            for work, leaving, _ in waiting:
                for each in leaving:
                    self.undo(work, each.entry.name)
            return [(work, {each.entry.name: error for each in leaving}) for work, leaving, _ in waiting]
        return [(work, errors) for work, errors in failed if errors]

    def reclaim(self, folder: int, size: int) -> bool:
        """Give up versions if an open folder is on a full disk; True if it is worth to try once more.

        `size` are the bytes of the file that had no room.
        """
        if self._holder.is_on:
            return False  # what a hold may be about is not given up for new files
        if os.fstat(folder).st_dev != os.fstat(self._context.mirror_root).st_dev:
            return False  # another disk in the mirror, which has no versions
        if self._reclaimer is None:
            from job.engine.versions.give_up import Reclaimer  # noqa: PLC0415  # few disks are full

            self._reclaimer = Reclaimer(self._context, self._run)
        return self._reclaimer.reclaim(size)

    def take_given_up(self) -> "tuple[GivenUp, list[Event]]":
        """Return, and forget, what was given up, as `Reclaimer.take` does."""
        return self._reclaimer.take() if self._reclaimer else (NOTHING_GIVEN_UP, [])

    def _not_yet_kept(self, replaced: Replaced) -> Replaced:
        work, leaving, alone = replaced
        known = self._made
        return (
            work,
            [
                each
                for each in leaving
                if (id(work), each.entry.name) not in known and not stat.S_ISDIR(each.entry.mode)
            ],
            alone,
        )

    def _keep_in_folder(
        self, work: Work, leaving: list[Leaving], enter: Callable[[Work], int], *, alone: bool
    ) -> dict[bytes, OSError]:
        try:
            folder = enter(work)
        except OSError:
            return {}
        volume = work.volume
        can_link = volume.number == 0 and volume.mirror.hard_links
        if not volume.mirror.hard_links and volume.number == 0 and all(each.temp for each in leaving):
            made, failed = self._keeper.intend(leaving, work.listing.path)
            intended = {join(work.listing.path, each.row.name): (work, each) for each in made if each.path}
            self._intended |= intended
            self._note(work, [each for each in made if not each.path])
            return failed
        try:
            made, failed = self._keeper.keep(leaving, folder, work.listing.path, can_link=can_link, alone=alone)
        except OSError as error:
            return {each.entry.name: error for each in leaving}
        self._note(work, made)
        return failed

    def _note(self, work: Work, made: list[Version]) -> None:
        self._made |= {(id(work), version.row.name): (work, version) for version in made}
        self._is_incomplete |= any(not version.path for version in made)

    def put(self, temp: bytes, name: bytes, folder: int, path: bytes) -> None:
        """Rename a temp of an open folder to `name`, at `path`; what was intended for its old entry is done before.

        Raises `OSError`.
        """
        while True:
            try:
                self._put(temp, name, folder, path)
            except OSError as error:  # on btrfs also a rename needs room
                if failure_of(error) is not Failure.NO_SPACE or not self.reclaim(folder, 0):
                    raise
            else:
                return

    def _put(self, temp: bytes, name: bytes, folder: int, path: bytes) -> None:
        work, version = self._intended.get(path, (None, None))
        if work is None or version is None or not self._keeper.move_aside(version, folder):
            os.rename(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            try:
                os.rename(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                self._keeper.put_back(version.path, path, folder)
                raise
            self._note(work, [version])
        self._intended.pop(path, None)

    def undo(self, work: Work, name: bytes) -> None:
        """Take the version of a name back, if there is one: its content stays."""
        _, version = self._made.pop((id(work), name), (None, None))
        if version is not None and version.path:
            self._keeper.undo(version)

    def drop(self) -> None:
        """Take back all versions whose contents were not replaced yet."""
        self._intended.clear()
        replaced = [each for each in self._made.items() if not (each[1][1].path and self._keeper.undo(each[1][1]))]
        self._made = dict(replaced)

    def take(self) -> list[VersionsDone]:
        """Return, and forget, all versions, with the times at which their contents were replaced."""
        self._intended.clear()
        if not (made := self._keeper.take_moved() + [self._ended(*each) for each in self._made.values()]):
            return []
        self._made.clear()
        return versions_done(made, self._context.moment)

    def take_incomplete(self) -> bool:
        """Return whether a content was replaced, and not kept, since the last call."""
        is_incomplete, self._is_incomplete = self._is_incomplete, False
        return is_incomplete

    def _ended(self, work: Work, version: Version) -> Version:
        settled = work.settled.get(version.row.name)
        until_ns = (settled.since_ns or max(0, settled.mirror.ctime_ns)) if settled else self._run.now_ns()
        version.row = version.row._replace(until_ns=until_ns)
        return version
