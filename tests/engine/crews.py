"""Workers that meet a bad end at a moment of the test's choosing, and crews that tell who brought what."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from functools import partial

from job.app import worker_main
from job.engine.messages import Errand, LookHere, Placed, Seen
from job.system.processes import Crew, Post

Serve = Callable[[Post, worker_main.Orders], None]
Kind = type[LookHere] | type[Errand]


def dying(serve: Serve, fatal: tuple[Kind, int, bool], post: Post, orders: worker_main.Orders) -> None:
    """Work as ever until so many tasks of a kind are taken up; the first one dies of it, or everybody."""
    kind, at, again = fatal
    dies = again or orders.slot == 1
    left = iter(range(at - 1))
    real = post.next

    def take() -> object:
        task = real()
        if dies and isinstance(task, kind) and next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    vars(post)["next"] = take
    serve(post, orders)


def never_ready(_post: Post, _orders: worker_main.Orders) -> None:
    os._exit(3)


def with_a_bug(post: Post, orders: worker_main.Orders) -> None:
    """Meet a bug at the first task."""

    def take() -> object:
        raise RuntimeError("nobody expected this")

    vars(post)["next"] = take
    worker_main.serve(post, orders)


def die_at(kind: Kind, at: int, *, again: bool = False) -> Callable[[Crew], None]:
    """Have the first worker die when it takes up its `at`-th task of a kind, or all, `again` and again."""

    def brief(crew: Crew) -> None:
        crew._work = partial(dying, crew._work, (kind, at, again))

    return brief


def replace_by(work: Callable[..., None]) -> Callable[[Crew], None]:
    """Have workers do something else."""

    def brief(crew: Crew) -> None:
        crew._work = work

    return brief


def count_in(who: Counter[int]) -> Callable[[Crew], None]:
    """Count the entries that each worker brought word of, looked at or placed."""

    def brief(crew: Crew) -> None:
        real = crew.hear

        def hear(seconds: float) -> list[tuple[int, object]]:
            heard = real(seconds)
            for slot, answer in heard:
                if isinstance(answer, Placed):
                    who[slot] += answer.tally.entries
                elif isinstance(answer, Seen):
                    who[slot] += answer.found.entries
            return heard

        vars(crew)["hear"] = hear

    return brief
