"""Entries: go through a folder, entry by entry; nearly all of them need nothing, and cost next to nothing."""

from job.core.decide import decide, is_as_known
from job.core.entry import Entry, Kind, join
from job.core.outcome import failure_of, reason_text
from job.core.record import Outcome, Record
from job.engine.context import Assignment, Bench
from job.engine.copy.actions import Deeds, Place
from job.engine.copy.batch import Batch
from job.engine.copy.finish import Settled
from job.engine.messages import Links
from job.errors import Stopped


class Entries:
    """Sees to the entries of folders, with the tools of a visitor."""

    def __init__(self, bench: Bench, work: Assignment, batch: Batch, deeds: Deeds) -> None:
        self._bench = bench
        self._assignment = work
        self._batch = batch
        self._deeds = deeds

    def go(self, place: Place, present: dict[bytes, Entry], records: dict[bytes, Record], links: Links | None) -> None:
        """See to all entries of a folder, and have the batch take it in. Raises `Stopped` or `MirrorLost`.

        `links` is what became of names that were seen to before; None as long as names of one file may still be met.
        """
        listing, means = place.work.listing, place.work.means
        self._batch.open(place.work)
        for name, error in listing.unreadable:
            self._batch.fail(place.work, join(listing.path, name), Kind.FILE, failure_of(error), reason_text(error))
        for entry in self._to_do(place, present, records, links or {}):
            self._check_stop()
            mirror, record = present.get(entry.name), records.get(entry.name)
            if links and entry.name in links and self._is_seen_to(place, entry, mirror, links[entry.name], record):
                self._deeds.note_unheld(place, entry)
                continue
            if links is not None and entry.name in place.work.linked:
                # It has other names, and nobody knew of that in time: the next cycle sees to it that they are one.
                place.work.doubtful.add(entry.name)
            if record is not None and entry.kind is not Kind.FOLDER:
                # Holds until something better is known: a copy that fails leaves the old content in place.
                place.work.kept[entry.name] = record
            step = decide(join(listing.path, entry.name), entry, mirror, record, means)
            self._deeds.do(place, step, mirror, record)
            if self._batch.full:
                self._batch.commit()
        self._batch.close(place.work)

    @staticmethod
    def _is_seen_to(place: Place, entry: Entry, mirror: Entry | None, found: Outcome, record: Record | None) -> bool:
        """Take over what became of a name that was seen to with others; False if it changed since."""
        work, name, outcome = place.work, entry.name, found.record
        if outcome is None:
            work.sure = False  # it failed, and was told
            if record is not None:
                work.kept[name] = record
            return True
        # To get another name moves a file's ctime, and nothing else.
        if (
            entry != outcome.source
            or (name in work.linked and work.linked[name].device != found.device)
            or mirror is None
            or mirror._replace(ctime_ns=0) != outcome.mirror._replace(ctime_ns=0)
        ):
            return False
        work.settled[name] = Settled(entry, outcome.checksum, mirror, outcome.racy)
        return True

    def _to_do(
        self, place: Place, present: dict[bytes, Entry], records: dict[bytes, Record], links: Links
    ) -> list[Entry]:
        """Give the entries of a folder that something may have to be done about; of the others no more than a sum."""
        work, means = place.work, place.work.means
        if self._assignment.verbose or not records:
            return work.listing.entries
        to_do, size = [], 0
        for entry in work.listing.entries:
            name = entry.name
            record = records.get(name)
            if (
                record is not None
                and name not in links
                and is_as_known(entry, present.get(name), record, means)
                and (not means.read_everything or self._is_confirmed(record, place))
            ):
                work.kept[name] = record
                work.untouched[name] = record.mirror
                size += entry.size
            else:
                to_do.append(entry)
        self._deeds.pass_over(work, size)
        return to_do

    def _is_confirmed(self, record: Record, place: Place) -> bool:
        self._check_stop()
        return self._bench.copyist.confirms(record, place.source, place.mirror)

    def _check_stop(self) -> None:
        if self._assignment.stop():
            raise Stopped("stopped between two entries")
