"""What a cycle of one pair holds back: decided after the scan, given to the work items, stored at the end."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self

from job.core.brake import MOST_EXAMPLES, DestructiveCounts, change_digest, plan_hash, why_held
from job.core.entry import Kind, printable
from job.core.outcome import BrakeReason
from job.engine.brake.holder import held_folder
from job.engine.brake.judge import BrakeVerdict, limits_of
from job.engine.brake.stored import StoredHold, mark_of
from job.engine.context import PairContext, PairRun
from job.engine.messages import BatchResult, HeldPlace, ItemHold, SyncHardLinks, SyncPart, Task, WorkItem
from job.events.brake import BrakeHeld, BrakeReleased
from job.events.pair import FileFailed
from job.events.text import plural
from job.store.held_table import HeldRow, HeldTable, held_key

DONE = "its plan was approved, and is done"
NOTHING_LEFT = "nothing is left to hold"


class Hold:
    """The brake of one pair in one cycle."""

    def __init__(
        self, context: PairContext, run: PairRun, before: StoredHold, judgement: BrakeVerdict, known: tuple[int, int]
    ) -> None:
        """`known` are the numbers of files in the index, and of source folders that could not be listed."""
        self._index, self._run, self._before = context.index, run, before
        self._judgement, (self._known_files, unlisted) = judgement, known
        if run.pair.brake is None:
            raise AssertionError
        self._limits = limits_of(run.pair.brake)
        self._held: dict[bytes, set[bytes]] = {key: set(digests) for key, digests in judgement.gone.items()}
        self._examples: list[bytes] = [*judgement.canaries, *judgement.retired][:MOST_EXAMPLES]
        self._exempt = self._zeroed = self._failed = 0
        self._is_unjudged = bool(unlisted)
        self.reason: BrakeReason | None = None
        """Set as soon as the brake has tripped."""
        self.is_on = False
        """Whether work items hold back what would replace contents."""
        if judgement.reason is not None:
            self._trip(judgement.reason)

    @classmethod
    def of_zeros(cls, context: PairContext, run: PairRun) -> Self:
        """Return that of a cycle in which contents became zeros, which no listing tells."""
        return cls(context, run, StoredHold(), BrakeVerdict(None), (context.index.entry_count(), 0))

    def _trip(self, reason: BrakeReason) -> None:
        self.reason, self.is_on = reason, True
        with suppress(OSError):  # without room for the mark, the history has the plan at the end of the cycle
            HeldTable(self._index).store(mark_of(reason))

    def given(self, item: WorkItem) -> WorkItem:
        """Return a work item with what is held in it."""
        if not (self.is_on or self._before.rows):
            return item
        places = {place for task in item.tasks for place in _places(task)} if self._before.rows else set()
        known = {place: digests for place in places if (digests := self._before.known(*place))}
        approved = {place: digests for place in places if (digests := self._before.approved(*place))}
        return item._replace(hold=ItemHold(self.is_on, known, approved))

    def holds_folder(self, path: bytes) -> bool:
        """Return whether the mirror's folder at a path has to stay, which is noted then."""
        if not self.is_on:
            return False
        entry = held_folder(path)
        digest = change_digest(entry.name, entry)
        if digest in self._before.approved(path, 0):
            return False
        self._note(held_key(path, 0), (digest,), (path,))
        return True

    def _note(self, key: bytes, digests: tuple[bytes, ...], examples: tuple[bytes, ...]) -> None:
        self._held.setdefault(key, set()).update(digests)
        self._examples += [path for path in examples if path not in self._examples][
            : MOST_EXAMPLES - len(self._examples)
        ]

    def record(self, batch: BatchResult) -> None:
        """Record what a committed batch held, or replaced by zeros: too many of these trip the brake in mid-run."""
        failures = [event for event in batch.events if isinstance(event, FileFailed)]
        self._failed += len(failures)
        self._is_unjudged |= any(event.kind is Kind.FOLDER for event in failures)
        if batch.held is None:
            return
        for (path, part), digests, examples in batch.held.changes:
            self._note(held_key(path, part), digests, examples)
        self._exempt += batch.held.exempt
        self._zeroed += batch.held.zeroed
        if not self.is_on and self._zeroed > self._limits.files:
            self._trip(BrakeReason.EMPTIED)

    def miss(self) -> None:
        """Note that some folders were not judged, as their worker was lost."""
        self._is_unjudged = True

    def settle(self) -> bool:
        """Return whether anything is held, once all work items are committed; if nothing is, the hold ends."""
        if self.is_on and not any(self._held.values()) and not self._is_incomplete:
            self.is_on = False
        return self.is_on

    @property
    def _is_incomplete(self) -> bool:
        return self._is_unjudged or self._failed > self._limits.files

    @property
    def _count(self) -> int:
        return sum(map(len, self._held.values())) + self._judgement.more_files

    @property
    def is_held(self) -> bool:
        """Whether the pair is held, once all work items are committed."""
        if self.reason is None:
            return False
        counts = DestructiveCounts(self._count)
        is_left = why_held(counts, self._known_files, self._limits, held_before=True) is not None
        return is_left or self._is_incomplete

    def finish(self) -> None:
        """Store and report what is held, or that the hold ended."""
        if self.reason is None:
            if self._before.is_approved and not self._failed and not self._is_unjudged:
                self._release(DONE)
            return
        if not self.is_held:
            self._release(NOTHING_LEFT)
            return
        with suppress(OSError):  # then the plan cannot be approved; the next cycle stores it
            HeldTable(self._index).store(mark_of(self.reason), self._rows())
        self._run.emit(self._event(self._count, self.reason))

    def _rows(self) -> dict[bytes, HeldRow]:
        """Return the rows to store: what was approved stays approved until it is done."""
        before = self._before
        keys = {*self._held, *(key for key, row in before.rows.items() if row.approved or before.is_approved)}
        rows: dict[bytes, HeldRow] = {}
        for key in keys:
            row = before.rows.get(key, HeldRow(frozenset(), frozenset()))
            approved = row.all if before.is_approved else row.approved
            rows[key] = HeldRow(approved, frozenset(self._held.get(key, ())))
        return rows

    def _release(self, why: str) -> None:
        with suppress(OSError):  # the next cycle does it
            HeldTable(self._index).store(0, {})
        self._run.emit(BrakeReleased(**self._run.about, reason=why))

    def _event(self, files: int, reason: BrakeReason) -> BrakeHeld:
        before, name = self._before, self._run.pair.name
        return BrakeHeld(
            **self._run.about,
            reason=reason,
            files=files,
            known=self._known_files,
            exempt=max(self._exempt, self._judgement.exempt),
            examples=tuple(map(printable, self._examples)),
            plan=plan_hash({key: row.waiting - row.approved for key, row in self._rows().items()}),
            tripped=not before.is_held,
            error=_WHY[reason](files, self._known_files, self._limits.files, self._examples),
            hint=f"Look at `truecopy plan --pair {name}`. If these changes are right, run `truecopy approve {name}`; "
            "if not, bring the source back: the mirror has the contents of before.",
        )


def _places(task: Task) -> list[HeldPlace]:
    if isinstance(task, SyncPart):
        return [(task.path, task.number)]
    if isinstance(task, SyncHardLinks):
        names = [(each.path, each.part) for group in task.groups for each in group.link_names]
        return [*names, *((path, 0) for path, _ in names)]
    return [(task.path, 0)]


def _by_share(files: int, known: int, _most: int, _examples: list[bytes]) -> str:
    return f"{plural(files, 'file')} of {known} would be replaced or retired"


def _by_zeros(files: int, known: int, most: int, _examples: list[bytes]) -> str:
    return (
        f"more than {plural(most, 'file')} became empty or all zeros; {files} of {known} would be replaced or retired"
    )


def _by_canary(files: int, known: int, _most: int, examples: list[bytes]) -> str:
    first = printable(examples[0]) if examples else "a canary"
    changed = f"{files} of {known} files would be replaced or retired"
    return f"{first}, which nobody changes, was changed or is missing; {changed}"


_WHY: Mapping[BrakeReason, Callable[[int, int, int, list[bytes]], str]] = {
    BrakeReason.SHARE: _by_share,
    BrakeReason.EMPTIED: _by_zeros,
    BrakeReason.CANARY: _by_canary,
}
