"""Exchange: a mirror folder that is not as it was left is judged before anybody is sent there, and perhaps replaced.

The main process does this, before it gives out any errand below such a folder: whoever worked there would go on in what
was moved away.
"""

from collections.abc import Callable

from job.core.adoption import Left
from job.core.entry import Kind
from job.core.events import Event, FileFailed
from job.core.outcome import Failure, failure_of, reason_text
from job.core.tally import Tally
from job.tasks.adoption import Adoption
from job.tasks.bench import Assignment, Bench
from job.tasks.errand import Onward, Placed


class Exchange:
    """Judges and replaces folders of one mirror. Use it with `contextlib.closing`."""

    def __init__(self, bench: Bench, work: Assignment, commit: Callable[[list[Placed]], list[Placed]]) -> None:
        """`commit` has the index forget what was moved away, and tells it."""
        self._adoption = Adoption(bench, work)
        self._work = work
        self._commit = commit
        self._seen_to: set[bytes] = set()
        self._events: list[Event] = []
        self._retired: list[bytes] = []
        self._anew: list[bytes] = []
        self._failed: dict[Failure, int] = {}

    def close(self) -> None:
        """Close what was opened."""
        self._adoption.close()

    def is_seen_to(self, path: bytes) -> bool:
        """Tell whether a folder lies in one that was replaced, or could not be: nobody is sent there by itself."""
        if not self._seen_to:
            return False
        while path:
            path = path.rpartition(b"/")[0]
            if path in self._seen_to:
                return True
        return False

    def see_to(self, path: bytes, left: Left) -> bool:
        """Judge a folder; True if it was replaced, or could not be. It is told with `settle`."""
        try:
            why = self._adoption.why_not(path, left)
            if not why:
                return False
            told = self._adoption.make_anew(path, why)
            self._retired.append(path)
            self._anew.append(path)
            self._events += [told] if told is not None else []
        except OSError as error:
            self._fail(path, error)
        self._seen_to.add(path)
        return True

    def _fail(self, path: bytes, error: OSError) -> None:
        reason = failure_of(error)
        self._failed[reason] = self._failed.get(reason, 0) + 1
        self._events.append(
            FileFailed(
                cycle_id=self._work.cycle_id,
                pair=self._work.pair.name,
                path=path,
                kind=Kind.FOLDER,
                reason=reason,
                error=f"its mirror: {reason_text(error)}",
            )
        )

    def settle(self) -> tuple[list[Placed], list[bytes]]:
        """Have what was replaced forgotten and told.

        Gives what became of that, and the new folders, which are to be visited with all below them.
        """
        if not self._events and not self._retired:
            return [], []
        batch = Placed(
            begun=0,
            since_ns=self._work.now_ns(),
            ended=[],
            events=self._events,
            tally=Tally(failed_by=dict(self._failed)),
            retired=self._retired,
            onward=Onward(moved=[path.rpartition(b"/")[0] for path in self._anew]),
        )
        anew, self._events, self._retired, self._anew, self._failed = self._anew, [], [], [], {}
        return self._commit([batch]), anew
