"""Measuring, comparing and the order of it, with tools made for it. Nothing here asserts a time."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from job.config.model import WrittenConfig
from tests.bench import machine, stages, trees
from tests.bench.comparison import Comparison
from tests.bench.errors import BenchError
from tests.bench.measure import Surroundings, cost_of, memory_of
from tests.bench.results import OURS, Result
from tests.bench.scratch import Scratch, Sizes, opened
from tests.bench.tools import TOOLS, Order, Tool, config_of
from tests.bench.works import WORKS, Place, Work

TINY = Sizes(files=25, large=3000, runs=3, guest_runs=1)
FIRST_COPY = Work(name="first", title="first copy", place=Place.DISK, fresh=True)
CHANGED = Work(name="changed", title="changed", place=Place.DISK, changed=0.2)
BY_CHECKSUM = Work(name="sums", title="sums", place=Place.DISK, by_checksum=True)


def a_tool(name: str, *, guest: bool = False, also: str = "true") -> Tool:
    def copy(order: Order) -> list[str] | None:
        return (
            None if order.by_checksum else ["sh", "-c", f"cp -a {order.source}/. {order.dest}; cd {order.dest}; {also}"]
        )

    return Tool(name=name, program="cp", comes_from="here", command=copy, version=lambda: "1", guest=guest)


def a_comparison(folder: Path, *tools: Tool) -> Comparison:
    return Comparison(tools, Scratch(TINY, {Place.DISK: folder}, {Place.TMPFS: "none here"}))


def around(folder: Path) -> Surroundings:
    return Surroundings(folder, {"PATH": os.environ["PATH"]}, folder / "output")


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_the_job_knows_every_key_that_a_work_gives_it(work: Work, tmp_path: Path) -> None:
    order = Order(source=tmp_path / "a", dest=tmp_path / "b", config=tmp_path, again=False, by_checksum=False)

    config = WrittenConfig.model_validate(config_of(order, tmp_path, work.options))

    assert config.model_dump(include=set(work.options)) == dict(work.options)


def test_cost_counts_cpu_time_of_children_and_memory_the_sum_of_all_processes(tmp_path: Path) -> None:
    child = "import time; data = bytearray(b'x') * (24 << 20); end = time.process_time() + 0.2\n"
    child += "while time.process_time() < end: pass"
    parent = f"import subprocess, sys; x = b'x' * (24 << 20); subprocess.run([sys.executable, '-c', {child!r}])"

    cost = cost_of([[sys.executable, "-c", parent]], around(tmp_path))
    peak = memory_of([[sys.executable, "-c", parent]], around(tmp_path))

    assert cost.cpu_seconds >= 0.2
    assert peak >= 48 << 20


def test_memory_of_a_forked_worker_counts_what_it_shares_once_and_its_own_in_full(tmp_path: Path) -> None:
    worker = "y = bytearray(b'y') * (24 << 20); time.sleep(0.2); os._exit(0)"
    script = f"import os, time\nx = bytearray(b'x') * (64 << 20)\nif not os.fork():\n    {worker}\nos.wait()"

    peak = memory_of([[sys.executable, "-c", script]], around(tmp_path))

    assert 88 << 20 <= peak < 120 << 20


def test_a_tool_that_fails_is_reported_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"ended with 3.*\n.*out of paint"):
        cost_of([["sh", "-c", "echo out of paint >&2; exit 3"]], around(tmp_path))


def test_every_tool_runs_in_every_round_but_a_guest_and_one_that_cannot_do_the_work(tmp_path: Path) -> None:
    comparison = a_comparison(tmp_path, a_tool(OURS), a_tool("theirs"), a_tool("slow", guest=True))

    comparison.stand_mirrors()
    results = [comparison.perform(work) for work in (BY_CHECKSUM, CHANGED)]

    assert [{name: len(costs) for name, costs in result.costs.items()} for result in results] == [
        {},
        {OURS: 3, "theirs": 3, "slow": 1},
    ]
    assert trees.listing(tmp_path / "source/small") == trees.listing(tmp_path / f"standing/{OURS}")


def test_a_work_may_have_fewer_rounds_and_fewer_peers(tmp_path: Path) -> None:
    comparison = a_comparison(tmp_path, a_tool(OURS), a_tool("theirs"), a_tool("others"))
    work = Work(name="short", title="short", place=Place.DISK, fresh=True, rounds=2, peers=frozenset({"theirs"}))

    result = comparison.perform(work)

    assert {name: len(costs) for name, costs in result.costs.items()} == {OURS: 2, "theirs": 2}


def test_another_tool_begins_each_round(tmp_path: Path) -> None:
    log = tmp_path / "log"
    comparison = a_comparison(tmp_path, *(a_tool(name, also=f"echo -n {name} >>{log}") for name in "abc"))

    comparison.perform(FIRST_COPY)

    assert log.read_text() == "abc" + "abc" + "bca" + "cab"


@pytest.mark.parametrize(
    ("also", "told"),
    [
        ("echo >surplus", "too much: 'surplus'"),
        ("find . -name '*0000003*' -delete", "missing: "),
        ("find . -name '*0000003*' -exec touch -m {} +", "different mtime_ns: "),
        ("find . -name '*0000003*' -exec chmod 600 {} +", "different mode: "),
    ],
)
def test_a_tool_that_makes_another_tree_ends_the_benchmark(also: str, told: str, tmp_path: Path) -> None:
    comparison = a_comparison(tmp_path, a_tool(OURS), a_tool("theirs", also=also))

    with pytest.raises(BenchError, match=rf"theirs made another tree.* 1 differences:\n{told}"):
        comparison.perform(FIRST_COPY)


def test_a_tool_that_breaks_its_standing_mirror_is_found_by_the_next_work(tmp_path: Path) -> None:
    break_it = (
        "find . -name '*0000003*' -exec sh -c 'touch -r \"$1\" t; echo >>\"$1\"; touch -r t \"$1\"; rm t' - {} ';'"
    )
    comparison = a_comparison(tmp_path, a_tool(OURS))
    comparison.stand_mirrors()

    with pytest.raises(BenchError, match="different checksum"):
        Comparison([a_tool(OURS, also=break_it)], comparison.scratch, comparison._trees).perform(CHANGED)


def test_a_first_copy_on_a_disk_gives_back_its_blocks_and_keeps_its_inodes(tmp_path: Path) -> None:
    a_comparison(tmp_path, a_tool(OURS)).perform(FIRST_COPY)

    files = [path for path in tmp_path.glob("first-*/**/*") if path.is_file()]
    assert len(files) == 25 * (1 + TINY.runs)
    assert {path.stat().st_size for path in files} == {0}


def test_a_work_without_its_place_gives_the_reason(tmp_path: Path) -> None:
    comparison = a_comparison(tmp_path, a_tool(OURS))

    result = comparison.perform(WORKS[0])

    assert result.missing == "none here"


def test_a_work_that_does_not_fit_into_memory_gives_the_reason(tmp_path: Path) -> None:
    scratch = Scratch(Sizes(files=10**12, large=1, runs=1), {Place.TMPFS: tmp_path, Place.DISK: tmp_path})

    obstacles = {work.name: scratch.obstacle(work) for work in WORKS}

    assert "bytes to spare" in (obstacles["first_copy_tmpfs"] or "")
    assert obstacles["large_sha256"] is obstacles["unchanged"] is None


def test_works_that_copy_are_done_at_one_size_and_a_huge_tree_with_fewer_tools_and_rounds() -> None:
    dealt = stages.stages([1_000_000, 10_000, 100_000], Sizes(0, 1, runs=5), WORKS, TOOLS)
    lightened = [stages.lightened(stage) for stage in dealt]

    assert [(stage.sizes.files, stage.sizes.runs) for stage in lightened] == [(10_000, 5), (100_000, 5), (1_000_000, 2)]
    assert [len(stage.works) for stage in lightened] == [2, len(WORKS), 2]
    assert [len(stage.tools) for stage in lightened] == [len(TOOLS), len(TOOLS), 2]
    assert dealt[2].tools == TOOLS


def test_a_result_that_is_not_good_is_measured_once_more_and_the_second_counts(tmp_path: Path) -> None:
    seen: list[Result] = []
    stage = stages.Stage(TINY, [FIRST_COPY, CHANGED], [a_tool(OURS), a_tool("theirs")])

    def good(result: Result) -> bool:
        seen.append(result)
        return False

    results = stages.perform(stage, {Place.DISK: tmp_path}, lambda _: None, good)

    assert [each.work.name for each in results] == ["first", "standing", "changed"]
    assert [each.work.name for each in seen] == ["first", "changed"]
    assert not {id(each) for each in seen} & {id(each) for each in results}


def test_scratch_folders_are_gone_after_an_error_and_one_without_room_is_refused(tmp_path: Path) -> None:
    kept: list[Path] = []

    def fail(folders: Mapping[Place, Path]) -> None:
        kept.extend(folders.values())
        trees.grow(kept[0] / "tree", 3)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), opened(tmp_path, 1) as folders:
        fail(folders)
    with pytest.raises(BenchError, match="--scratch"), opened(tmp_path, 10**18):
        pass

    assert kept
    assert not any(folder.exists() for folder in kept)


def test_the_machine_is_described_and_file_systems_are_told_apart() -> None:
    facts = machine.describe()

    assert isinstance(facts["cores"], int)
    assert isinstance(facts["memory_bytes"], int)
    assert machine.file_system(Path("/proc/self")) == "proc"
