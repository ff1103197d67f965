"""Visit: bring the mirror of a folder up to its source (design 3.1), in whatever process.

What goes wrong in one place is told and passed over; the next one goes on.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from job.core.entry import Entry, Kind, join
from job.core.outcome import failure_of
from job.core.plan import Means, decide
from job.core.rows import decoded
from job.errors import Stopped
from job.files.listing import Listing
from job.files.metadata import user_xattrs
from job.files.trail import Trail
from job.tasks.batch import Batch
from job.tasks.bench import Assignment, Bench, Tacho
from job.tasks.deeds import Deeds, MirrorLost, Place
from job.tasks.errand import Errand, Placed, Visit
from job.tasks.finish import Work
from job.tasks.sweep import sweep_folder

_OWNER_MAY_CHANGE = 0o300


class Visitor:
    """Goes on errands, one process's worth of them. Use `at_work` around everything else."""

    def __init__(self, bench: Bench, work: Assignment, tacho: Tacho, deliver: Callable[[Placed], None]) -> None:
        self._bench = bench
        self._assignment = work
        self._means = Means(work.pair.checksum, work.pair.compare == "checksum")
        self._sources = Trail(bench.source_root)
        self._mirrors = Trail(bench.mirror_root)
        # The batch walks the mirror on a trail of its own: a commit in mid-folder must not move ours.
        self._placing = Trail(bench.mirror_root)
        self._batch = Batch(bench, work, self._placing, deliver)
        self._deeds = Deeds(bench, work, self._batch, tacho)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Do no more than is safe when it ends by an error: staged temps are thrown away."""
        try:
            yield
        except Stopped:
            # What needed no temp, such as a mended mode, is done: it is made safe, remembered and told.
            self._batch.drop()
            self._batch.commit()
            raise
        except MirrorLost:
            self._batch.drop()
            self._batch.give_up()
            raise
        except BaseException:
            self._batch.drop()
            raise
        finally:
            for trail in (self._sources, self._mirrors, self._placing):
                trail.close()

    def go(self, errand: Errand) -> None:
        """Visit the folders of an errand. Raises `Stopped` or `MirrorLost`."""
        self._batch.begin(errand.number)
        for visit in errand.visits:
            self._check_stop()
            if visit.fingerprint:
                self._visit(visit)
            else:
                self._visit_whole(visit.path)
            self._commit_if_full()
        self._batch.end()

    def finish(self) -> None:
        """Commit what waits."""
        self._batch.commit()

    def _check_stop(self) -> None:
        if self._assignment.stop():
            raise Stopped("stopped between two entries")

    def _commit_if_full(self) -> None:
        if self._batch.full:
            self._batch.commit()

    def _visit_whole(self, path: bytes) -> None:
        """Visit a folder that came since the look, and all below it: nobody looked at what is in there."""
        for found in self._bench.source.walk(path):
            self._check_stop()
            self._visit(Visit(found.path, b"", ""))
            self._commit_if_full()

    def _visit(self, visit: Visit) -> None:
        path = visit.path
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
        if visit.fingerprint and listing.fingerprint != visit.fingerprint:
            self._batch.unseen += [join(path, name) for name in listing.folders]
        self._batch.open(work)
        self._entries(Place(work, source, mirror), listing, present, visit.rows)
        self._batch.close(work)

    def _entries(self, place: Place, listing: Listing, present: dict[bytes, Entry], rows: str) -> None:
        records = decoded(rows)
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
            self._commit_if_full()

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
