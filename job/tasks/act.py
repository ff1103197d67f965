"""Act: bring the mirror of each changed folder up to its source (design 3.1). Folders are visited parents first.

What goes wrong in one place is told and passed over; the next one goes on.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress

from job.core.entry import Entry, Kind, is_reserved, join
from job.core.outcome import failure_of
from job.core.plan import Means, decide
from job.core.rows import decoded
from job.errors import Stopped
from job.files.listing import Listing
from job.files.metadata import user_xattrs
from job.files.trail import Trail
from job.tasks.batch import Batch
from job.tasks.bench import Assignment, Bench
from job.tasks.deeds import Deeds, MirrorLost, Place
from job.tasks.finish import Work
from job.tasks.meter import Meter
from job.tasks.sweep import sweep_folder

_OWNER_MAY_CHANGE = 0o300


class Act:
    """Acts on changed folders of one pair. Not to be used again after `run`."""

    def __init__(self, bench: Bench, work: Assignment, meter: Meter) -> None:
        self._bench = bench
        self._assignment = work
        self._means = Means(work.pair.checksum, work.pair.compare == "checksum")
        self._sources = Trail(bench.source_root)
        self._mirrors = Trail(bench.mirror_root)
        # The batch walks the mirror on a trail of its own: a commit in mid-folder must not move ours.
        self._placing = Trail(bench.mirror_root)
        self._batch = Batch(bench, work, self._placing)
        self._deeds = Deeds(bench, work, self._batch, meter)
        self._met: set[bytes] = set()
        self._late: list[bytes] = []

    def run(self, folders: Sequence[bytes], unlisted: Iterable[bytes] = ()) -> None:
        """Bring these folders up to date and commit. Raises `Stopped` or `MirrorLost`, with temps thrown away.

        `unlisted` are folders that the look could not read: they are told of, and not to be tried again here.
        """
        self._met = {*folders, *unlisted}
        with closing(self._sources), closing(self._mirrors), closing(self._placing):
            try:
                for path in folders:
                    self._check_stop()
                    self._visit(path)
                    self._visit_late()
                    self._commit_if_full()
                self._batch.commit()
            except Stopped:
                # What needed no temp, such as a mended mode, is done: it is made safe, remembered and told.
                self._batch.drop()
                self._batch.commit()
                raise
            except MirrorLost:
                self._batch.drop()
                self._batch.tidings.publish_failures()
                raise
            except BaseException:
                self._batch.drop()
                raise

    def _check_stop(self) -> None:
        if self._assignment.stop():
            raise Stopped("stopped between two entries")

    def _commit_if_full(self) -> None:
        if self._batch.full:
            self._batch.commit()

    def _visit_late(self) -> None:
        """Visit folders that came or were renamed since the look, whole: nobody looked at what is in them."""
        while self._late:
            for found in self._bench.source.walk(self._late.pop()):
                self._check_stop()
                if isinstance(found, Listing):
                    # The walk goes on into these by itself; a second visit would sweep the temps of the first.
                    self._met.update(join(found.path, name) for name in found.folders)
                self._visit(found.path)

    def _visit(self, path: bytes) -> None:
        if path in self._batch.tidings.lost_folders:
            return
        try:
            listing = self._bench.source.list(path)
            source = self._sources.goto(path)
            work = Work(listing, user_xattrs(source))
        except FileNotFoundError:
            return  # gone since the look; what is in the mirror stays there
        except OSError as error:
            self._batch.tidings.fail(path, Kind.FOLDER, failure_of(error), str(error))
            return
        try:
            mirror = self._mirrors.goto(path)
            present = self._mirror_entries(mirror)
        except OSError as error:
            self._batch.tidings.fail(path, Kind.FOLDER, failure_of(error), f"its mirror cannot be opened: {error}")
            return
        self._batch.open(work)
        self._entries(Place(work, source, mirror), listing, present)
        self._batch.close(work)

    def _entries(self, place: Place, listing: Listing, present: dict[bytes, Entry]) -> None:
        records = decoded(self._bench.memory.rows(listing.path))
        for name, error in listing.unreadable:
            self._batch.fail(place.work, join(listing.path, name), Kind.FILE, failure_of(error), str(error))
        for entry in listing.entries:
            self._check_stop()
            mirror, record = present.get(entry.name), records.get(entry.name)
            if record is not None and entry.kind is not Kind.FOLDER:
                # Holds until something better is known: a copy that fails leaves the old content in place.
                place.work.kept[entry.name] = record
            step = decide(join(listing.path, entry.name), entry, mirror, record, self._means)
            self._deeds.do(place, step, mirror, record)
            if entry.kind is Kind.FOLDER:
                self._note_if_late(join(listing.path, entry.name))
            self._commit_if_full()

    def _note_if_late(self, path: bytes) -> None:
        # The look asks for every folder that the index does not know, so one it did not ask for is new since then.
        if path not in self._met and not is_reserved(path) and self._bench.memory.summary(path) is None:
            self._met.add(path)
            self._late.append(path)

    def _mirror_entries(self, mirror: int) -> dict[bytes, Entry]:
        """List a mirror folder, made writable for us; temps that a killed run left are swept."""
        mode = os.fstat(mirror).st_mode
        if mode & _OWNER_MAY_CHANGE != _OWNER_MAY_CHANGE:
            with suppress(OSError):  # then the entries fail one by one, each with its own words
                os.fchmod(mirror, (mode & 0o7777) | 0o700)
                self._batch.dirty = True
        # We hold the lock, and this folder's own temps are not made yet: nobody is writing them.
        present, swept = sweep_folder(mirror)
        self._batch.dirty |= swept
        return {entry.name: entry for entry in present}
