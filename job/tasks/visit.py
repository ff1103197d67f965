"""Visit: bring the mirror of a folder up to its source (design 3.1), in whatever process.

What goes wrong in one place is told and passed over; the next one goes on.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from job.core.entry import Entry, Kind, join
from job.core.outcome import failure_of
from job.core.plan import decide, is_as_known
from job.core.record import Record
from job.core.rows import decoded
from job.errors import Stopped
from job.files.crowd import count_in, rows_named, sweep_temps
from job.files.listing import Huge, Listing, Unreadable, entries_of, whole_fingerprint
from job.files.trail import Trail
from job.tasks.batch import Batch
from job.tasks.bench import Assignment, Bench, Tacho, means_of
from job.tasks.deeds import Deeds, MirrorLost, Place
from job.tasks.errand import Close, Divided, Errand, Part, Placed, Split, Task, Visit
from job.tasks.finish import Portion, Work, finish_whole
from job.tasks.parts import heaps, names_of
from job.tasks.sweep import sweep_folder

_OWNER_MAY_CHANGE = 0o300


class Visitor:
    """Goes on errands, one process's worth of them. Use `at_work` around everything else."""

    def __init__(self, bench: Bench, work: Assignment, tacho: Tacho, deliver: Callable[[Placed], None]) -> None:
        self._bench = bench
        self._assignment = work
        self._means = means_of(work.pair)
        self._sources = Trail(bench.source_root)
        self._mirrors = Trail(bench.mirror_root)
        # The batch walks the mirror on a trail of its own: a commit in mid-folder must not move ours.
        self._placing = Trail(bench.mirror_root)
        self._batch = Batch(bench, work, self._placing, deliver)
        self._deeds = Deeds(bench, work, self._batch, tacho)
        self._tacho = tacho

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
        finally:
            self._batch.drop()
            for trail in (self._sources, self._mirrors, self._placing):
                trail.close()

    def go(self, errand: Errand) -> None:
        """Visit the folders of an errand. Raises `Stopped` or `MirrorLost`."""
        self._batch.begin(errand.number)
        for task in errand.tasks:
            self._check_stop()
            self._commit_if_full()
            self._see_to(task)
        self._batch.end()
        # Not sooner: what a task found is committed with the word that its errand is done with.
        self._commit_if_full()

    def finish(self) -> None:
        """Commit what waits."""
        self._batch.commit()

    def _check_stop(self) -> None:
        if self._assignment.stop():
            raise Stopped("stopped between two entries")

    def _commit_if_full(self) -> None:
        if self._batch.full:
            self._batch.commit()

    def _see_to(self, task: Task) -> None:
        match task:
            case Visit(fingerprint=b""):
                self._visit_whole(task.path)
            case Visit():
                self._visit(task)
            case Split():
                self._split(task)
            case Part():
                self._part(task)
            case Close():
                self._close(task)

    def _visit_whole(self, path: bytes) -> None:
        """Visit a folder that came since the look, and all below it: nobody looked at what is in there."""
        for found in self._bench.source.walk(path):
            self._check_stop()
            self._visit(Visit(found.path, b"", ""))
            self._commit_if_full()

    def _visit(self, visit: Visit) -> None:
        path = visit.path
        try:
            place = self._place(path, self._bench.source.list)
        except Huge:
            self._batch.onward.grown.append((path, b""))
            return
        if place is None:
            return
        try:
            present = self._mirror_entries(place.mirror)
        except Huge:
            self._batch.onward.grown.append((path, visit.fingerprint))
            return
        except OSError as error:
            self._fail(path, error, "its mirror cannot be listed: ")
            return
        listing, place.work.rows = place.work.listing, visit.rows
        if visit.fingerprint and listing.fingerprint != visit.fingerprint:
            self._batch.onward.unseen += [join(path, name) for name in listing.folders]
        self._entries(place, present, visit.rows)

    def _place(self, path: bytes, listed: Callable[[bytes], Listing]) -> Place | None:
        """Open both sides of a folder; None if that cannot be done. Raises `Huge`."""
        if path in self._batch.tidings.lost_folders:
            return None
        try:
            listing = listed(path)
            source = self._sources.goto(path)
            work = Work(listing, self._bench.keeper.attributes_of(source), policy=self._assignment.pair.policy)
        except Huge:
            raise
        except FileNotFoundError:
            return None  # gone since the look; what is in the mirror stays there
        except OSError as error:
            self._fail(path, error)
            return None
        try:
            return Place(work, source, self._mirrors.goto(path))
        except OSError as error:
            self._fail(path, error, "its mirror cannot be opened: ")
            return None

    def _fail(self, path: bytes, error: OSError, what: str = "") -> None:
        self._batch.tidings.fail(path, Kind.FOLDER, failure_of(error), f"{what}{error}")

    def _entries(self, place: Place, present: dict[bytes, Entry], rows: str) -> None:
        records, listing = decoded(rows, self._assignment.pair.policy), place.work.listing
        self._batch.open(place.work)
        for name, error in listing.unreadable:
            self._batch.fail(place.work, join(listing.path, name), Kind.FILE, failure_of(error), str(error))
        for entry in self._to_do(place, present, records):
            self._check_stop()
            mirror, record = present.get(entry.name), records.get(entry.name)
            if record is not None and entry.kind is not Kind.FOLDER:
                # Holds until something better is known: a copy that fails leaves the old content in place.
                place.work.kept[entry.name] = record
            step = decide(join(listing.path, entry.name), entry, mirror, record, self._means)
            self._deeds.do(place, step, mirror, record)
            self._commit_if_full()
        self._batch.close(place.work)

    def _to_do(self, place: Place, present: dict[bytes, Entry], records: dict[bytes, Record]) -> list[Entry]:
        """Give the entries of a folder that something may have to be done about; of the others no more than a sum."""
        work, means = place.work, self._means
        if self._assignment.verbose or not records:
            return work.listing.entries
        to_do, size = [], 0
        for entry in work.listing.entries:
            name = entry.name
            record = records.get(name)
            if (
                record is not None
                and is_as_known(entry, present.get(name), record, means)
                and (not means.read_everything or self._is_confirmed(record, place))
            ):
                work.kept[name] = record
                work.untouched[name] = record.mirror
                size += entry.size
            else:
                to_do.append(entry)
        self._deeds.pass_over(len(work.untouched), size)
        return to_do

    def _is_confirmed(self, record: Record, place: Place) -> bool:
        self._check_stop()
        return self._bench.copyist.confirms(record, place.source, place.mirror)

    def _mirror_entries(self, mirror: int) -> dict[bytes, Entry]:
        """List a mirror folder, made writable for us; temps that a killed run left are swept."""
        self._make_writable(mirror)
        # We hold the lock, and this folder's own temps are not made yet: nobody is writing them.
        present, swept = sweep_folder(mirror)
        self._batch.dirty |= swept
        return {entry.name: entry for entry in present}

    def _make_writable(self, mirror: int) -> None:
        mode = os.fstat(mirror).st_mode
        if mode & _OWNER_MAY_CHANGE != _OWNER_MAY_CHANGE:
            with suppress(OSError):  # then the entries fail one by one, each with its own words
                os.fchmod(mirror, (mode & 0o7777) | 0o700)
                self._batch.dirty = True

    # Huge folders ----------------------------------------------------------------------------------------------------

    def _split(self, task: Split) -> None:
        path = task.path
        place = self._place(path, self._nothing_of)
        if place is None:
            return
        self._make_writable(place.mirror)
        try:
            # All of it before the first part is begun: no part may take another's temps for left ones.
            self._batch.dirty |= sweep_temps(place.mirror)
            fingerprint = task.fingerprint or self._fingerprint(path)
            names = heaps(place.source, place.mirror, task.parts, self._breathe)
        except OSError as error:
            self._fail(path, error)
            return
        self._batch.onward.divided.append(Divided(path, fingerprint, names))

    def _part(self, task: Part) -> None:
        names = names_of(task.names)
        place = self._place(task.path, lambda path: self._bench.source.part(path, names))
        if place is None:
            return
        work, unreadable = place.work, Unreadable()
        present = {entry.name: entry for entry in entries_of(rows_named(place.mirror, names, unreadable))}
        work.portion, work.rows = Portion(task.number, present), "" if task.borrowed else task.rows
        work.sure = not unreadable
        if task.unseen:
            self._batch.onward.unseen += [join(task.path, name) for name in work.listing.folders]
        self._entries(place, present, task.rows)

    def _close(self, task: Close) -> None:
        path, held = task.path, task.total.held
        place = self._place(path, self._nothing_of)
        if place is None:
            return
        try:
            there = count_in(place.mirror)
            if there < held:
                raise FileExistsError(errno.EEXIST, f"{held} names were put there, but it has {there} of them")
            folder, changed = finish_whole(task, place.source, place.mirror, self._bench.keeper)
        except OSError as error:
            self._fail(path, error, "its mirror: ")
            return
        self._batch.dirty |= changed
        self._batch.close_folder(folder)

    def _nothing_of(self, path: bytes) -> Listing:
        return self._bench.source.part(path, [])

    def _fingerprint(self, path: bytes) -> bytes:
        shares = [self._bench.source.glance(path)]
        for share in range(1, shares[0].shares):
            self._breathe()
            shares.append(self._bench.source.glance(path, share))
        return whole_fingerprint([each.fingerprint for each in shares])

    def _breathe(self) -> None:
        self._check_stop()
        self._tacho.bytes_copied(0)
