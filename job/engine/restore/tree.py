"""Restore a request into an open target: temps first, a sync, then names, a sync; metadata of new folders at the end.

Nothing is told to be restored before content and name are on the disk. Nothing of the target is removed, and no
metadata of folders that existed is changed. Each folder is reached from the target's root without following a link
(invariant 12).
"""

import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import NamedTuple

from job.core.entry import FileId, Kind, parent_of
from job.core.file_systems import NameRules
from job.core.outcome import reason_text
from job.core.restore_plan import Kept, Sureness, others
from job.core.versions import Moment
from job.engine.restore.choice import Choice, Request, choices
from job.engine.restore.file import FileRestorer, RottenError, rename_new
from job.engine.restore.folders import IN_THE_WAY, TargetFolders, replace_beside
from job.engine.restore.journal import RestoreJournal, clean_up
from job.engine.restore.kept import Content, KeptTree
from job.errors import ChangedWhileReadError
from job.fs.dircursor import DirCursor, single
from job.fs.large_dir import has_name
from job.fs.own_files import MirrorSync, fsync_folder
from job.fs.sparse import SECTOR

_BATCH = 500
_BATCH_BYTES = 256 << 20
"""Temps, and their bytes, that are synced at once."""
_MAY_BE_SPARSE = 1 << 20
_NOW = float(1 << 40)
"""Later than all replaced contents."""
_NO_CONTENT = Kept(Moment(0), Kind.SPECIAL)


class What(StrEnum):
    """What became of an entry."""

    RESTORED = "restored"
    LIKELY = "likely"
    """Restored, and it may not be what stood there at that time."""
    EQUAL = "equal"
    """The target has its content already."""
    EXISTS = "exists"
    """The target has something else of its name."""
    NOT_KEPT = "not_kept"
    ABSENT = "absent"
    """It was not there at that time."""
    ROTTEN = "rotten"
    """What is kept does not have the recorded checksum."""
    FAILED = "failed"


DONE = frozenset({What.RESTORED, What.LIKELY, What.EQUAL})
"""What leaves nothing to do."""


class Outcome(NamedTuple):
    """What became of one entry."""

    path: bytes
    what: What
    kind: Kind
    reason: str = ""
    moment: Moment | None = None
    """The version folder that it came from; None for the mirror."""
    size: int = 0
    """In bytes, of a file that was written."""
    beside: bytes = b""
    """The new name of the entry that was in the way."""
    is_checked: bool = False
    """Whether its content was compared with a recorded checksum."""
    checksum: str = ""
    """Of the file that was written, with its algorithm."""
    offers: Sequence[Kept] = ()
    """Other contents of a path that was not restored, the nearest first."""


class Totals(NamedTuple):
    """The size of a restore."""

    entries: int
    """That are not folders, with those that the target has already."""
    size: int
    """In bytes, of what may be written."""
    first: bytes | None
    """The first path that is restored; None if there is none."""


class _Temp(NamedTuple):
    choice: Choice
    content: Content
    temp: bytes
    size: int
    """In bytes; 0 for a link to a file that was restored under another name."""
    checksum: str
    """Of a file; as recorded for such a link."""


class TreeRestorer:
    """Restores one request. Use it with `contextlib.closing`."""

    def __init__(
        self,
        kept: KeptTree,
        target: tuple[int, MirrorSync],
        files: FileRestorer,
        request: Request,
        rules: NameRules | None,
    ) -> None:
        """`target` is the open folder for what is restored, and syncs it; `rules` as in `choices`."""
        self._kept, self._files, self._request, self._rules = kept, files, request, rules
        root, self._sync = target
        self._root, self._beside = root, DirCursor(root)
        self._journal = RestoreJournal(root, files.prefix)
        self._folders = TargetFolders(kept, root, files, request, self._journal)
        self._pending: deque[_Temp] = deque()
        self._pending_size = 0
        self._linked: dict[FileId, tuple[bytes, int]] = {}
        """Path and inode number of the first restored name of files with several names."""

    def close(self) -> None:
        """Close what was opened."""
        self._folders.close()
        self._beside.close()

    def clean_up(self) -> None:
        """Remove what killed restores left in the target. Raises `OSError`."""
        self._folders.unfinished = clean_up(self._root)

    def measure(self) -> Totals:
        """Return the size of the restore; nothing is written. Raises `OSError`."""
        entries = count = 0
        first, seen = None, set[FileId | None]()
        for choice in choices(self._kept, self._request, self._rules):
            content = choice.content
            if content is None or choice.kind is Kind.FOLDER:
                continue
            entries, first = entries + 1, choice.path if first is None else first
            file = _file_of(content)
            if file not in seen:
                count += self._needed(choice.path, content)
            if file is not None:
                seen.add(file)
        return Totals(entries, count, first)

    def _needed(self, path: bytes, content: Content) -> int:
        """Return the bytes that a file will take; 0 if the target has it already, as far as its stat tells."""
        entry = content.entry
        with suppress(OSError):
            there = os.stat(path.rpartition(b"/")[2], dir_fd=self._folders.goto(parent_of(path)), follow_symlinks=False)
            if not self._request.overwrite or (there.st_size, there.st_mtime_ns) == (entry.size, entry.mtime_ns):
                return 0
        if entry.kind is not Kind.FILE:
            return 0
        if entry.size >= _MAY_BE_SPARSE:
            with suppress(OSError):
                seen = os.stat(entry.name, dir_fd=self._kept.open(content.folder), follow_symlinks=False)
                return min(entry.size, seen.st_blocks * SECTOR)
        return entry.size

    def run(self) -> Generator[Outcome, None, None]:
        """Restore all. Raises `OSError` if the target cannot be synced, and what the restorer's `on_chunk` raises.

        Ended before, it leaves no temps, and new folders with their metadata.
        """
        is_finished = False
        try:
            for choice in choices(self._kept, self._request, self._rules):
                self._files.checkpoint()
                yield from self._take(choice)
                if len(self._pending) >= _BATCH or self._pending_size >= _BATCH_BYTES:
                    yield from self._name_pending()
            yield from self._name_pending()
            is_finished = True
            unset = [Outcome(path, What.FAILED, Kind.FOLDER, why) for path, why in self._folders.finish()]
            self._end_journal()  # before the sync: otherwise a power cut brings it back
            if self._sync.each:
                fsync_folder(self._root)
            self._sync.all()
            yield from unset
        finally:
            for each in self._pending:
                self._discard(each)
            if not is_finished:
                deque(self._folders.finish(), maxlen=0)
            self._end_journal()

    def _end_journal(self) -> None:
        self._journal.end(is_clean=not self._files.has_left_temps)

    def _take(self, choice: Choice) -> Iterator[Outcome]:
        self._folders.follow(choice)
        if choice.error is not None:
            yield Outcome(choice.path, What.FAILED, choice.kind, reason_text(choice.error))
        elif choice.content is None:
            is_lost = choice.answer.sureness is Sureness.NOT_KEPT
            what = What.NOT_KEPT if is_lost else What.ABSENT
            yield Outcome(choice.path, what, choice.kind, choice.answer.reason, offers=self._offers(choice))
        elif choice.kind is not Kind.FOLDER:
            yield from self._restore(choice, choice.content)
        elif choice.is_empty:
            try:
                self._folders.open(choice.path)
            except OSError as error:
                yield Outcome(choice.path, What.FAILED, Kind.FOLDER, reason_text(error))

    def _restore(self, choice: Choice, content: Content) -> Iterator[Outcome]:
        """Make the temp of an entry; yields what becomes of an entry that gets none."""
        path, moment = choice.path, content.kept.moment
        above, _, name = path.rpartition(b"/")
        if self._waits_for_name(content):
            yield from self._name_pending()
        try:
            folder = self._folders.open(above)
            present = self._present(content, name, folder)
            if present is What.EQUAL:
                self._note_link(content, path, folder)
            if present is not None:
                reason = IN_THE_WAY if present is What.EXISTS else ""
                yield Outcome(path, present, choice.kind, reason, moment)
                return
            temp, size, checksum = self._files.new_temp(), 0, content.checksum
            self._journal.note_temps(above)
            if not self._link(content, temp, folder):
                checksum = self._files.make(content, folder, temp)
                size = content.entry.size if choice.kind is Kind.FILE else 0
        except (RottenError, ChangedWhileReadError, OSError) as error:
            what = What.ROTTEN if isinstance(error, RottenError) else What.FAILED
            yield Outcome(path, what, choice.kind, _why(error, content), moment, offers=self._offers(choice))
        else:
            self._pending.append(_Temp(choice, content, temp, size, checksum))
            self._pending_size += size

    def _present(self, content: Content, name: bytes, folder: int) -> What | None:
        """Return what becomes of an entry of which the target has the name; None if it is restored."""
        if not has_name(folder, name):
            return None
        if self._files.is_equal(content, name, folder):
            return What.EQUAL
        return None if self._request.overwrite else What.EXISTS

    def _offers(self, choice: Choice) -> list[Kept]:
        """Return the other contents of a path, those nearest to the time of the request first."""
        files = [each.kept for each in choice.contents if each.entry.kind is not Kind.FOLDER]
        not_this = choice.content.kept if choice.content else _NO_CONTENT
        return others(files, not_this, _NOW if self._request.at is None else self._request.at)

    def _waits_for_name(self, content: Content) -> bool:
        """Return whether another name of a file is among the temps: a link needs its final name."""
        file = _file_of(content)
        return file is not None and any(_file_of(each.content) == file for each in self._pending)

    def _link(self, content: Content, temp: bytes, folder: int) -> bool:
        """Link the file that was restored under another name to a temp; False if it has to be copied."""
        file = _file_of(content)
        if file is None or file not in self._linked:
            return False
        path, inode = self._linked[file]
        try:
            first = self._beside.goto(parent_of(path))
            name = single(path.rpartition(b"/")[2])
            os.link(name, temp, src_dir_fd=first, dst_dir_fd=folder, follow_symlinks=False)
        except OSError:
            return False
        if os.stat(temp, dir_fd=folder, follow_symlinks=False).st_ino == inode:
            return True
        os.unlink(temp, dir_fd=folder)
        return False

    def _note_link(self, content: Content, path: bytes, folder: int) -> None:
        """Note the first name in the target, whose folder is open, of a file with several names."""
        if (file := _file_of(content)) is not None:
            there = os.stat(path.rpartition(b"/")[2], dir_fd=folder, follow_symlinks=False)
            self._linked.setdefault(file, (path, there.st_ino))

    def _name_pending(self) -> Iterator[Outcome]:
        """Sync all temps, give them their names, and sync these. Raises `OSError`."""
        if not self._pending:
            return
        self._sync.all()
        outcomes: list[Outcome] = []
        while self._pending:
            outcomes.append(self._named(self._pending[0]))
            self._pending.popleft()
        self._pending_size = 0
        self._sync.all()
        yield from outcomes

    def _named(self, each: _Temp) -> Outcome:
        choice, content = each.choice, each.content
        above, _, name = choice.path.rpartition(b"/")
        moment = content.kept.moment
        try:
            folder = self._folders.goto(above)
            beside = self._give_name(each.temp, name, folder)
            if self._sync.each:
                fsync_folder(folder)
            self._note_link(content, choice.path, folder)
        except OSError as error:
            self._discard(each)
            is_taken = isinstance(error, FileExistsError)
            reason = IN_THE_WAY if is_taken else reason_text(error)
            return Outcome(choice.path, What.EXISTS if is_taken else What.FAILED, choice.kind, reason, moment)
        is_certain = choice.answer.sureness is Sureness.CERTAIN
        what, reason = (What.RESTORED, "") if is_certain else (What.LIKELY, choice.answer.reason)
        checked = bool(content.checksum)
        return Outcome(choice.path, what, choice.kind, reason, moment, each.size, beside, checked, each.checksum)

    def _give_name(self, temp: bytes, name: bytes, folder: int) -> bytes:
        """Rename a temp; an entry in the way gets another name first, which is returned. Raises `OSError`."""
        try:
            rename_new(temp, name, folder)
        except FileExistsError:
            if not self._request.overwrite:
                raise
        else:
            return b""
        beside = name + self._request.suffix
        replace_beside(temp, name, beside, folder)
        return beside

    def _discard(self, each: _Temp) -> None:
        try:
            self._files.discard(each.temp, self._folders.goto(parent_of(each.choice.path)))
        except OSError:
            self._files.has_left_temps = True


def _file_of(content: Content) -> FileId | None:
    """Return the identity of a file with several names; None for any other."""
    return None if content.shared is None else FileId(content.shared.device, content.entry.inode)


def _why(error: Exception, content: Content) -> str:
    if isinstance(error, RottenError) and not content.is_as_recorded:
        return f"another program changed it in the mirror: {error}"
    return reason_text(error)
