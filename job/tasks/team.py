"""The team: the worker processes of a pair as the tasks see them. Who is lost is told, and replaced a few times."""

from collections.abc import Callable
from typing import NamedTuple

from job.core.events import WorkerLost
from job.tasks.bench import Assignment, Crew
from job.tasks.errand import Broken, Ready

_MOST_REPLACED = 16
"""Losses after which nobody is hired any more: what kills so many kills all."""
WAIT_SECONDS = 0.2
"""Longest wait for an answer: how soon a stop is noticed."""


class Gone(NamedTuple):
    """Instead of an answer: the worker is lost, with everything it was given and had not answered."""

    how: str


class Team:
    """Hires, listens, and tells of losses. Use it with `contextlib.closing`."""

    def __init__(self, recruit: Callable[[], Crew], work: Assignment) -> None:
        """`recruit` gives the crew, with nobody in it yet; it is asked when somebody is needed."""
        self._recruit = recruit
        self._work = work
        self._crew: Crew | None = None
        self._ready: set[int] = set()
        self._bugs: dict[int, str] = {}
        self._wanted = 0
        self._lost = 0
        self.most = work.workers
        """How many workers there may be."""

    @property
    def _members(self) -> list[int]:
        return self._crew.members if self._crew else []

    @property
    def work_from(self) -> int:
        """Entries of a job from which workers pay."""
        return self._work.workers_from

    @property
    def awaited(self) -> bool:
        """Whether somebody hired is not ready yet."""
        return len(self._ready) < len(self._members)

    @property
    def ready(self) -> list[int]:
        """Those who can be given something."""
        return [slot for slot in self._members if slot in self._ready]

    @property
    def hopeless(self) -> bool:
        """Whether workers are wanted and there will be none."""
        return self._wanted > 0 and not self._members

    def hire(self, count: int) -> None:
        """Have so many workers, as far as possible."""
        self._wanted = count
        if self._crew is None:
            self._crew = self._recruit()
        if self._lost < _MOST_REPLACED:
            self._crew.hire(count)

    def give(self, slot: int, task: object) -> None:
        """Give a ready worker a task."""
        if self._crew is not None:
            self._crew.give(slot, task)

    def stop(self) -> None:
        """Ask all to end what they do soon; nobody is replaced any more."""
        self._lost = _MOST_REPLACED
        if self._crew is not None:
            self._crew.stop()

    def close(self) -> None:
        """Let all go."""
        if self._crew is not None:
            self._crew.close()

    def hear(self, seconds: float = WAIT_SECONDS) -> list[tuple[int, object]]:
        """Wait, at most so long, for answers; a lost worker's is `Gone`, told and replaced already."""
        heard: list[tuple[int, object]] = []
        for slot, answer in self._crew.hear(seconds) if self._crew else []:
            how = getattr(answer, "how", None)
            if isinstance(answer, Ready):
                self._ready.add(slot)
            elif isinstance(answer, Broken) and not answer.fatal:
                self._bugs[slot] = answer.error
            elif isinstance(how, str):
                heard.append((slot, self._gone(slot, how)))
            else:
                heard.append((slot, answer))
        return heard

    def _gone(self, slot: int, how: str) -> Gone:
        self._lost += 1
        if slot not in self._ready:
            self._lost = _MOST_REPLACED  # it died of itself, not of its work, and so would the next one
        self._ready.discard(slot)
        told = self._bugs.pop(slot, how)
        self._work.emit(WorkerLost(cycle_id=self._work.cycle_id, pair=self._work.pair.name, error=told))
        self.hire(self._wanted)
        return Gone(told.rstrip().rpartition("\n")[2])
