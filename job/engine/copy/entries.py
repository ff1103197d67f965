"""Sync the entries of one folder, and find its names of files with several hard links.

Nearly all entries are unchanged: they are counted together, without a call for each.
"""

from collections.abc import Mapping
from contextlib import suppress
from stat import S_IFDIR, S_IFREG

from job.core.decide import NEW, Action, Decision, Policy, decide, is_unchanged, why_unsupported
from job.core.entry import STATE_FOLDER, TYPE_BITS, Entry, FileId, Kind, is_reserved, join
from job.core.outcome import failure_of, reason_text
from job.core.record import LinkName, LinkOutcome, Record
from job.engine.context import PairRun
from job.engine.copy.actions import Actions, OpenFolders
from job.engine.copy.batch import Batch
from job.engine.copy.content_compare import CHECK_ENTRIES
from job.engine.copy.finish_folder import Settled, Work, since_of
from job.engine.messages import Links
from job.errors import Stopped
from job.fs.listing import Shared, file_at
from job.fs.rights import needs_narrowing
from job.fs.small_copies import CHECK_NS, PLAIN_BITS, SMALL_BYTES, Left, PlainCopier, PlainCopy

_PLAIN_AT_ONCE = 64
"""Plain files that are copied before a batch is asked whether it is full."""


class Entries:
    """Syncs the entries of folders."""

    def __init__(self, run: PairRun, batch: Batch, actions: Actions) -> None:
        self._run = run
        self._batch = batch
        self._actions = actions

    def go(
        self, opened: OpenFolders, present: dict[bytes, Entry], records: dict[bytes, Record], links: Links | None
    ) -> None:
        """Sync all entries of a folder and add it to the batch. Raises `Stopped` or `MirrorLost`.

        `links` has the results of linked names that were synced before; None while more names of a file may be found.
        """
        listing, policy = opened.work.listing, opened.work.policy
        opened.work.before = records
        self._batch.open(opened.work)
        for name, error in listing.unreadable:
            self._batch.fail(opened.work, join(listing.path, name), Kind.FILE, failure_of(error), reason_text(error))
        prefix = listing.path + b"/" if listing.path else b""
        now_ns, checked_ns, holder = self._run.now_ns, 0, self._batch.holder
        to_do = self._entries_to_sync(opened, present, records, links or {})
        for number, entry in enumerate(self._copy_plain(opened, to_do, present, records, links or {})):
            if number % CHECK_ENTRIES == 0 or abs(now_ns() - checked_ns) >= CHECK_NS:
                self._check_stop()
                self._actions.report(opened.work)
                checked_ns = now_ns()
            mirror, record = present.get(entry.name), records.get(entry.name)
            if links and entry.name in links and self._take_over_link(opened, entry, mirror, links[entry.name], record):
                self._actions.note_unsupported(opened, entry)
                continue
            if links is not None and entry.name in opened.work.linked:
                # Its other names were not known in time: the next cycle links them.
                opened.work.doubtful.add(entry.name)
            if record is not None and entry.kind is not Kind.FOLDER:
                # Stays unless a copy succeeds: one that fails leaves the old content in place.
                opened.work.kept[entry.name] = record
            step = decide(prefix + entry.name, entry, mirror, record, policy)
            step = holder.compared_first(listing.path, opened.work.part, step, mirror, record) if holder.is_on else step
            self._actions.do(opened, step, mirror, record)
            if self._batch.full:
                self._batch.commit()
        self._batch.close(opened.work)
        self._actions.report(opened.work)

    def _copy_plain(
        self,
        opened: OpenFolders,
        entries: list[Entry],
        present: dict[bytes, Entry],
        records: dict[bytes, Record],
        links: Links,
    ) -> list[Entry]:
        """Copy the new and changed plain files among the entries; return all other entries. Raises `Stopped`."""
        work, linked, copier = opened.work, opened.work.listing.linked, opened.work.volume.plain
        if copier is None or not work.volume.metadata_writer.inherits_nothing:
            return entries
        plain = [
            entry
            for entry in entries
            if entry[2] & PLAIN_BITS == S_IFREG
            and entry[5] <= SMALL_BYTES
            and (name := entry[0]) not in linked
            and name not in links
            and not name.startswith(STATE_FOLDER)
            and (
                (name not in present and name not in records)
                or self._is_plain_change(work, entry, present.get(name), records.get(name))
            )
        ]
        if not plain:
            return entries
        done: set[bytes] = set()
        tried = 0
        while some := plain[tried : tried + min(_PLAIN_AT_ONCE, self._batch.files_left)]:
            self._check_stop()
            self._batch.journal_temps(work)
            copies, left = self._copied(opened, copier, some)
            tried += len(copies) + len(left)
            self._batch.add_plain(work, copies)
            done.update([copy[0][0] for copy in copies])
            for entry, error in left:
                if error is not None:
                    done.add(entry.name)
                    step = Decision(Action.COPY, entry, work.reasons.get(entry.name, NEW))
                    self._actions.fail(opened, step, error, present.get(entry.name))
            self._actions.report(work, len(copies), sum([copy[0][5] for copy in copies]))
            if self._batch.full:
                self._batch.commit()
        return [entry for entry in entries if entry[0] not in done]

    def _copied(
        self, opened: OpenFolders, copier: PlainCopier, some: list[Entry]
    ) -> tuple[list[PlainCopy], list[Left]]:
        work, holder = opened.work, self._batch.holder
        zeros = copier.note_zeros() if holder.watches_zeros and work.reasons else ()
        copies, left = copier.copy(
            some,
            opened.source,
            opened.mirror,
            self._actions.temps,
            group=opened.seen.st_gid,
            owners=work.volume.mirror.owners,
        )
        for copy, is_zero in zip(copies, zeros, strict=False):
            if is_zero and copy.source.name in work.reasons:
                holder.note_zeros(work.listing.path, work.part, copy.source)
        return copies, left

    def _is_plain_change(self, work: Work, entry: Entry, mirror: Entry | None, record: Record | None) -> bool:
        """Check that a small file replaces the copy that was recorded, and that nothing else is to be done."""
        if mirror is None or record is None or record.mirror != mirror or mirror.kind is not Kind.FILE:
            return False
        if self._batch.holder.is_on:
            return False
        step = decide(join(work.listing.path, entry.name), entry, mirror, record, work.policy)
        if step.action is not Action.COPY or step.drift is not None or needs_narrowing(mirror, entry):
            return False
        work.kept[entry.name] = record  # stays unless the copy succeeds
        work.reasons[entry.name] = step.reason
        return True

    @staticmethod
    def _take_over_link(
        opened: OpenFolders, entry: Entry, mirror: Entry | None, found: LinkOutcome, record: Record | None
    ) -> bool:
        """Use the outcome of a name that was synced with the others of its file; False if it changed since."""
        work, name, outcome = opened.work, entry.name, found.record
        if outcome is None:
            work.complete = False  # it failed, and was reported
            if record is not None:
                work.kept[name] = record
            return True
        # A further hard link changes the ctime, and nothing else.
        if (
            entry != outcome.source
            or (name in work.linked and work.linked[name].device != found.device)
            or mirror is None
            or mirror._replace(ctime_ns=0) != outcome.mirror._replace(ctime_ns=0)
        ):
            return False
        has_change_times = work.volume.clock_ns is None
        since_ns = since_of(outcome, mirror, mirror, outcome.checksum, has_change_times=has_change_times)
        work.settled[name] = Settled(entry, outcome.checksum, mirror, outcome.racy, since_ns)
        return True

    def _entries_to_sync(
        self, opened: OpenFolders, present: dict[bytes, Entry], records: dict[bytes, Record], links: Links
    ) -> list[Entry]:
        """Return the entries that may need an action; all others are counted as unchanged."""
        work, policy = opened.work, opened.work.policy
        if self._run.verbose or not records:
            return work.listing.entries
        prefix = policy.checksum + ":"
        unchanged: list[Record] = []
        for entry in work.listing.entries:
            name = entry[0]
            record = records.get(name)
            if record is None or record[0] != entry or record[1] != (mirror := present.get(name)) or name in links:
                continue
            # Nearly all files, without a call for each; the rule is that of `is_unchanged`.
            is_plain = entry[2] & TYPE_BITS == S_IFREG == record[1][2] & TYPE_BITS and record[2].startswith(prefix)
            is_plain = is_plain and not record[3] and not name.startswith(STATE_FOLDER)
            if is_plain or is_unchanged(entry, mirror, record, policy):
                unchanged.append(record)
        if policy.read_everything:
            unchanged = work.volume.copier.confirmed(unchanged, opened.source, opened.mirror)
        work.kept.update([(record[0][0], record) for record in unchanged])
        work.untouched.update([(record[0][0], record[1]) for record in unchanged])
        self._actions.count_unchanged(work, sum([record[0][5] for record in unchanged]))
        done = work.untouched.keys() | {
            name for name in work.listing.folders if (mirror := present.get(name)) is not None and mirror[2] == S_IFDIR
        }
        return [entry for entry in work.listing.entries if entry[0] not in done]

    def _check_stop(self) -> None:
        if self._run.stop():
            raise Stopped("stopped between two entries")


def link_names_in(
    opened: OpenFolders,
    present: dict[bytes, Entry],
    shared: Mapping[bytes, Shared],
    records: dict[bytes, Record],
    policy: Policy,
) -> list[LinkName]:
    """Return the names in a folder whose files have other names; none if none of them needs an action.

    `shared` has those of the mirror. A source file with one name counts, too, if its mirror has several, because a hard
    link may have been replaced by a copy.
    """
    if not policy.hard_links:
        return []
    listing = opened.work.listing
    ours = listing.linked
    found, to_do = [], False
    for entry in listing.entries:
        name = entry.name
        if name not in ours and name not in shared:
            continue
        left_out = entry.kind is Kind.FOLDER or (entry.kind is Kind.SPECIAL and not policy.specials)
        if left_out or why_unsupported(entry, policy) or is_reserved(join(listing.path, name)):
            continue
        record = records.get(name)
        known = record is not None and is_unchanged(entry, present.get(name), record, policy)
        to_do |= not known
        if name in ours or not known:
            found.append(entry)
    if not to_do:
        return []
    link_names = [
        _link_name(entry, opened, present.get(entry.name), shared, records.get(entry.name)) for entry in found
    ]
    return [each for each in link_names if each is not None]


def _link_name(
    entry: Entry, opened: OpenFolders, mirror: Entry | None, shared: Mapping[bytes, Shared], record: Record | None
) -> LinkName | None:
    """Return the link name of a listed entry; None if another file has its name now."""
    listing, name = opened.work.listing, entry.name
    ours = listing.linked.get(name)
    file = FileId(ours.device, entry.inode) if ours else _file_at(name, opened.source)
    if file is None or file.inode != entry.inode:
        return None
    other, held = shared.get(name), None
    if mirror is not None and mirror.kind is entry.kind:
        held = FileId(other.device, mirror.inode) if other else _file_at(name, opened.mirror)
    names = max(ours.names if ours else 1, other.names if other else 1)
    return LinkName(file, listing.path, opened.work.part, name, entry.size, held, record, names=names)


def _file_at(name: bytes, folder: int) -> FileId | None:
    with suppress(OSError):
        return file_at(name, folder)
    return None
