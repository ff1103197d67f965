"""A look at a pair, alone or with helpers, without the rest of a cycle."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from job.adapters.crew import Crew
from job.app import layout, worker
from job.core.events import CrewAwaited, Event
from job.tasks import gate, survey
from job.tasks.bench import Assignment, Bench
from job.tasks.look import Care, Looked
from job.tasks.meter import Meter
from job.tasks.team import Team
from tests.tasks.workshop import Workshop

Brief = Callable[[Crew], object]


@contextmanager
def at_work(
    shop: Workshop, told: list[Event], workers: int, brief: Brief, workers_from: int = 0
) -> Iterator[tuple[Bench, Team | None]]:
    """Open the pair as a cycle does."""
    work = Assignment("cycle", shop.pair, told.append, bool, shop.now_ns, workers=workers, workers_from=workers_from)
    with gate.enter(shop.pair, None, 0.0) as roots, layout.lay_out(work, roots, Meter(work)) as bench:

        def recruit() -> Crew:
            crew = worker.crew(work, roots, bench.abilities)
            brief(crew)
            return crew

        with closing(Team(recruit, work)) as team:
            team.hire(workers - 1)
            while team.awaited:
                team.hear()
            yield bench, team if workers > 1 else None


def looked(
    shop: Workshop,
    workers: int,
    *,
    care: Care = Care.AUDIT,
    brief: Brief = bool,
    workers_from: int = 0,
    expected: int = 0,
) -> tuple[Looked, list[Event]]:
    told: list[Event] = []
    with at_work(shop, told, workers, brief, workers_from) as (bench, team):
        found = survey.survey(bench, shop.pair, lambda _: None, care, team, expected)
    return found, [event for event in told if not isinstance(event, CrewAwaited)]
