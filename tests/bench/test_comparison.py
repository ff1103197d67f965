"""The benchmark's own parts: the original's loop, measuring, arithmetic, comparing. Nothing here asserts a time."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from job.core.config.model import WrittenConfig
from tests.bench import machine, report, trees
from tests.bench.comparison import Comparison, Result
from tests.bench.errors import BenchError
from tests.bench.measure import Cost, Surroundings, cost_of, memory_of
from tests.bench.scratch import Scratch, Sizes, opened
from tests.bench.tools import ROOT, TOOLS, Order, Tool, config_of
from tests.bench.works import WORKS, Place, Work

TINY = Sizes(files=25, large=3000, runs=2)
FIRST_COPY = Work(name="first", title="first copy", place=Place.DISK, fresh=True)
CHANGED = Work(name="changed", title="changed", place=Place.DISK, changed=0.2)


def a_tool(name: str, *, ours: bool = False, wrong: bool = False) -> Tool:
    def copy(order: Order) -> list[str] | None:
        done = f"cp -a {order.source}/. {order.dest}" + (f"; echo >{order.dest}/surplus" if wrong else "")
        return None if order.by_checksum else ["sh", "-c", done]

    return Tool(name=name, program="cp", comes_from="here", command=copy, version=lambda: "1", ours=ours)


def a_comparison(folder: Path, *tools: Tool) -> Comparison:
    return Comparison(tools, Scratch(TINY, {Place.DISK: folder}, {Place.TMPFS: "none here"}))


def around(folder: Path) -> Surroundings:
    return Surroundings(folder, {"PATH": os.environ["PATH"]}, folder / "output")


def the_original(folder: Path, **changed: object) -> list[str]:
    """Run the original's loop on `source` and `mirror`, and give its log lines."""
    config: Mapping[str, object] = {
        "run_enabled": "Y",
        "source_dirs": [str(folder / "source")],
        "dest_dirs": [str(folder / "mirror")],
        "log_file": str(folder / "backup.log"),
        "error_log_file": str(folder / "error.log"),
        "sleep_time": 30,
        **changed,
    }
    (folder / "config.json").write_text(json.dumps(config))
    log = folder / "backup.log"
    log.unlink(missing_ok=True)
    subprocess.run([sys.executable, ROOT / "tests/bench/original.py", folder / "config.json"], check=True)
    return log.read_text().splitlines() if log.exists() else []


def test_the_original_copies_once_then_only_what_differs_with_a_line_a_file(tmp_path: Path) -> None:
    trees.grow(tmp_path / "source", 30)

    first = the_original(tmp_path)
    second = the_original(tmp_path)
    trees.change(tmp_path / "source", 0.1, turn=1)
    third = the_original(tmp_path)

    assert trees.listing(tmp_path / "source") == trees.listing(tmp_path / "mirror")
    assert [sum(" copied " in line for line in lines) for lines in (first, second, third)] == [30, 0, 3]
    assert [len(lines) for lines in (first, second, third)] == [30, 30, 30]


def test_the_original_skips_stfolder_and_does_nothing_when_disabled(tmp_path: Path) -> None:
    (tmp_path / "source" / ".stfolder").mkdir(parents=True)
    (tmp_path / "source" / ".stfolder" / "marker").touch()
    (tmp_path / "source" / "file").touch()

    disabled = the_original(tmp_path, run_enabled="N")
    had_mirror = (tmp_path / "mirror").exists()
    the_original(tmp_path)

    assert (disabled, had_mirror) == ([], False)
    assert [path.name for path in (tmp_path / "mirror").iterdir()] == ["file"]


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_the_job_knows_every_key_that_a_work_gives_it(work: Work, tmp_path: Path) -> None:
    order = Order(source=tmp_path / "a", dest=tmp_path / "b", config=tmp_path, again=False, by_checksum=False)

    config = WrittenConfig.model_validate(config_of(order, tmp_path, work.options))

    assert config.model_dump(include=set(work.options)) == dict(work.options)


def test_ratios_are_taken_run_by_run_and_shown_as_median_with_extremes() -> None:
    found = report.ratio([1.0, 4.0, 9.0], [2.0, 2.0, 3.0])

    assert found == (2.0, 0.5, 3.0)
    assert str(found) == "2.00 (0.50..3.00)"


def test_the_table_says_which_tool_is_absent_and_which_work_was_not_run() -> None:
    done = Result(WORKS[0], {"truecopy": [Cost(1.0, 0.5)], "rsync": [Cost(4.0, 2.0)], "cp": [Cost(0.5, 0.5)]})
    missed = Result(WORKS[1], missing="no room")
    absent = {"rclone": "not on PATH"}

    text = report.ratio_table([done, missed], TOOLS, absent)
    cells = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines()]

    assert cells[0] == ["truecopy against", "rsync", "rclone", "cp", "original"]
    assert cells[2] == [WORKS[0].title, "0.25 (0.25..0.25)", "absent", "2.00 (2.00..2.00)", "-"]
    assert cells[3] == [WORKS[1].title, "-", "absent", "-", "-"]
    assert "rclone: not on PATH" in report.notes([done, missed], absent)
    assert "no room" in report.notes([done, missed], absent)


def test_cost_counts_cpu_time_of_children_and_memory_the_sum_of_all_processes(tmp_path: Path) -> None:
    child = "import time; data = bytearray(b'x') * (24 << 20); end = time.process_time() + 0.2\n"
    child += "while time.process_time() < end: pass"
    parent = f"import subprocess, sys; x = b'x' * (24 << 20); subprocess.run([sys.executable, '-c', {child!r}])"

    cost = cost_of([[sys.executable, "-c", parent]], around(tmp_path))
    peak = memory_of([[sys.executable, "-c", parent]], around(tmp_path))

    assert cost.cpu_seconds >= 0.2
    assert peak >= 48 << 20


def test_a_tool_that_fails_is_reported_with_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"ended with 3.*\n.*out of paint"):
        cost_of([["sh", "-c", "echo out of paint >&2; exit 3"]], around(tmp_path))


def test_every_tool_is_run_in_every_round_and_a_tool_that_cannot_is_left_out(tmp_path: Path) -> None:
    comparison = a_comparison(tmp_path, a_tool("ours", ours=True), a_tool("theirs"))
    by_checksum = Work(name="sums", title="sums", place=Place.DISK, by_checksum=True)

    comparison.stand_mirrors()
    results = [comparison.perform(work) for work in (CHANGED, by_checksum)]

    assert [{name: len(costs) for name, costs in result.costs.items()} for result in results] == [
        {"ours": 2, "theirs": 2},
        {},
    ]
    assert trees.listing(tmp_path / "source/small") == trees.listing(tmp_path / "standing/ours")


def test_a_tool_that_makes_another_tree_ends_the_benchmark(tmp_path: Path) -> None:
    comparison = a_comparison(tmp_path, a_tool("ours", ours=True), a_tool("theirs", wrong=True))

    with pytest.raises(BenchError, match=r"theirs made another tree.*\ntoo much: 'surplus'"):
        comparison.perform(FIRST_COPY)


def test_a_work_without_its_place_gives_the_reason(tmp_path: Path) -> None:
    comparison = a_comparison(tmp_path, a_tool("ours", ours=True))

    result = comparison.perform(WORKS[0])

    assert result.missing == "none here"


def test_scratch_folders_are_gone_after_an_error_and_one_without_room_is_refused(tmp_path: Path) -> None:
    kept: list[Path] = []

    def fail(scratch: Scratch) -> None:
        kept.extend(scratch.folders.values())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), opened(tmp_path, TINY, tools=2) as scratch:
        fail(scratch)
    with pytest.raises(BenchError, match="--scratch"), opened(tmp_path, Sizes(10**12, 1, 1), tools=2):
        pass

    assert kept
    assert not any(folder.exists() for folder in kept)


def test_the_machine_is_described_and_file_systems_are_told_apart() -> None:
    facts = machine.describe()

    assert isinstance(facts["cores"], int)
    assert isinstance(facts["memory_bytes"], int)
    assert machine.file_system(Path("/proc/self")) == "proc"


def test_the_quick_benchmark_runs_with_the_real_job_and_cleans_up(tmp_path: Path) -> None:
    json_file = tmp_path / "figures.json"
    (tmp_path / "scratch").mkdir()
    options = f"--quick --files 200 --runs 1 --json {json_file} --scratch {tmp_path / 'scratch'}".split()
    run = [sys.executable, str(ROOT / "tests/bench/run.py"), *options]

    done = subprocess.run(run, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    figures = json.loads(json_file.read_text())
    assert [work["work"] for work in figures["works"]] == [work.name for work in WORKS]
    assert all(work["missing"] or len(work["runs"]["truecopy"]) == 1 for work in figures["works"])
    assert figures["versions"].keys() | figures["absent"].keys() == {tool.name for tool in TOOLS}
    assert all(work.title in done.stdout for work in WORKS)
    assert not list((tmp_path / "scratch").iterdir())
