"""The budgets: how many calls a file may cost, and which modules a start may import."""

import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from job.system.hang_diagnosis import ForkSafeThread, WorkThread
from tests.bench import budget
from tests.bench.counted import CallCounter


@dataclass
class Made:
    number: int


def worked() -> None:
    pass


def work_twice() -> None:
    for _ in range(2):
        worked()


@pytest.mark.timeout(600)
@pytest.mark.needs_tool("strace")
def test_no_work_costs_more_calls_than_its_ceilings() -> None:
    with budget.scratch() as folder:
        above = budget.overruns(budget.measure(Path(folder)))

    assert above == [], "`python -m tests.bench.budget --list` names the calls"


def test_a_run_with_nothing_to_do_imports_the_modules_of_the_list_and_no_others(tmp_path: Path) -> None:
    listed = set(budget.comparable(budget.MODULES.read_text("utf-8").split()))
    found = set(budget.start_modules(tmp_path))

    assert sorted(found - listed) == [], "each start would pay for them: import them where they are needed"
    assert sorted(listed - found) == [], "no longer imported: drop them by `python -m tests.bench.budget --modules`"


@pytest.mark.parametrize(("kind", "calls"), [(WorkThread, 4), (ForkSafeThread, 2), (threading.Thread, 2)])
def test_calls_of_the_main_thread_and_of_work_threads_are_counted(kind: type[threading.Thread], calls: int) -> None:
    counter = CallCounter()

    counter.start()
    thread = kind(target=work_twice)
    thread.start()
    thread.join()
    work_twice()
    counter.stop()
    worked()

    assert counter.counts()["tests/bench/test_budget.py:worked"] == calls


def test_calls_that_make_named_tuples_and_dataclasses_are_counted_for_their_class() -> None:
    counter = CallCounter()

    counter.start()
    budget.Calls({}, {})
    Made(1)
    counter.stop()

    counts = counter.counts()
    assert counts["tests.bench.budget:Calls.<lambda>"] == 1
    assert counts[f"{__name__}:Made.__init__"] == 1


def test_a_figure_above_its_ceiling_is_named_with_both() -> None:
    allowed = {
        each.work: budget.Calls({"read": each.system_calls}, {"f": each.python_calls}) for each in budget.BUDGETS
    }
    first = budget.BUDGETS[0]
    figure, ceiling = first.system_calls + 0.1, first.system_calls
    more = budget.Calls({"read": ceiling, "write": 0.1}, {"f": first.python_calls})

    assert budget.overruns(allowed) == []
    assert budget.overruns({**allowed, first.work: more}) == [
        f"first copy: {figure:.3f} system calls for each file, at most {ceiling:g} are allowed"
    ]
