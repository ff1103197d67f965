"""Every fault of the matrix is made for Truecopy, and it takes each at least as well as tests/faults/README.md says.

To record other scores: `make faults FAULTS_ARGS="--json tests/faults/matrix/measured.json"`, and then
`make docs`.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.tools import ROOT
from tests.faults.matrix import measured, report
from tests.faults.matrix.finding import Finding, Score
from tests.faults.matrix.matrix import PACKAGES, ROWS, perform, tools_of
from tests.faults.matrix.row import Row
from tests.faults.matrix.scene import Scene
from tests.faults.matrix.tools import OURS, TOOLS, Order, Tool

TRUECOPY = next(tool for tool in TOOLS if tool.name == OURS)
BY_NUMBER = {row.number: row for row in ROWS}
TELLING = ("5", "12", "19")
"""Rows that are quick and tell the tools apart."""
PEERS = [pytest.mark.needs_tool("rsync"), pytest.mark.needs_tool("rclone")]
COMMAND = [sys.executable, str(Path(__file__).with_name("run.py"))]

AT_WORK = {"1", "25", "26", "29"}
"""Rows that meet the tool at work, or damage what Truecopy has of its own."""


def says_nothing(_: Order, __: str, ___: str) -> Iterator[str]:
    return iter(())


def copies_once(order: Order) -> list[str]:
    script = f"[ -n \"$(ls -A '{order.mirror}')\" ] || cp -a '{order.source}/.' '{order.mirror}/'; true"
    return ["sh", "-c", script]


IDLE = Tool(name="idle", title="idle", command=lambda _: ["true"], complaints=says_nothing)
FROZEN = Tool(name="frozen", title="frozen", command=copies_once, complaints=says_nothing)


def marked(row: Row) -> pytest.ParameterSet:
    return pytest.param(row, id=row.number, marks=[pytest.mark.needs_root, *map(pytest.mark.needs_tool, row.needs)])


def recorded(row: Row, tool: Tool) -> int:
    score: int = measured.read()["rows"][row.number]["tools"][tool.name]["score"]
    return score


@pytest.mark.parametrize("row", [marked(row) for row in ROWS])
def test_truecopy_takes_every_fault_as_well_as_recorded(tmp_path: Path, row: Row) -> None:
    finding = perform(row, TRUECOPY, tmp_path)

    assert finding.score >= recorded(row, TRUECOPY), finding


@pytest.mark.needs_root
@pytest.mark.parametrize("tool", [pytest.param(tool, id=tool.name, marks=PEERS) for tool in TOOLS])
@pytest.mark.parametrize("number", TELLING)
def test_the_peers_take_faults_as_recorded(tmp_path: Path, number: str, tool: Tool) -> None:
    row = BY_NUMBER[number]

    assert perform(row, tool, tmp_path).score == recorded(row, tool)


@pytest.mark.parametrize("tool", [pytest.param(tool, id=tool.name, marks=PEERS) for tool in TOOLS])
def test_where_nothing_goes_wrong_no_tool_complains_and_nothing_is_left(tmp_path: Path, tool: Tool) -> None:
    scene = Scene(tmp_path / "scene", tool)
    scene.fill_old()
    scene.first_run()
    scene.fill("new")
    assert scene.left == 20

    outcome = scene.run()

    assert (outcome.code, outcome.complaints, scene.left) == (0, (), 0)


@pytest.mark.parametrize("row", [marked(row) for row in ROWS if row.number not in AT_WORK])
def test_no_fault_is_taken_well_by_doing_nothing(tmp_path: Path, row: Row) -> None:
    # The idle one has no copy to lose: it is for the rows in which one run copies all.
    scores = (perform(row, tool, tmp_path).score for tool in (FROZEN, IDLE))

    assert any(score < Score.SAFE_AND_TOLD for score in scores)


def test_every_row_and_tool_is_recorded_and_only_what_is_to_come_later_is_below_three() -> None:
    rows = measured.read()["rows"]

    assert {number: set(row["tools"]) for number, row in rows.items()} == {
        row.number: {tool.name for tool in tools_of(row)} for row in ROWS
    }
    below = {number for number, row in rows.items() if row["tools"][OURS]["score"] < Score.SAFE_AND_TOLD}
    assert below == {row.number for row in ROWS if row.later}
    assert [(row["fault"], row.get("note", ""), row.get("later", "")) for row in rows.values()] == [
        (row.fault, row.note, row.later) for row in ROWS
    ]


def test_the_document_shows_what_is_recorded() -> None:
    assert report.section(measured.read()).strip() in (ROOT / "tests/faults/README.md").read_text("utf-8")


@pytest.fixture
def document() -> dict[str, Any]:
    """Two rows of made-up results."""
    late = Row(number="6", fault="rot", act=lambda _: Finding(told=False), later="verify")
    fifo = Row(number="10", fault="a FIFO", act=late.act)
    findings = {
        "6": {OURS: Finding(told=False, absent=("rot",)), "rsync": Finding(told=False, lesser=("rot",))},
        "10": {OURS: Finding(told=True, absent=("it",)), "rsync": Finding(told=True, left=7, code=None, wrong=("it",))},
    }
    return measured.document({}, (late, fifo), findings)


def test_a_score_below_three_is_an_error_of_ours_alone_and_not_where_something_is_to_come(
    document: dict[str, Any],
) -> None:
    assert report.worse(document) == []
    document["rows"]["10"]["tools"][OURS]["score"] = 2
    assert report.worse(document) == ["10"]


def test_the_table_shows_scores_healthy_files_left_and_what_is_to_come(document: dict[str, Any]) -> None:
    text = report.whole(document)

    lines = [[cell.strip() for cell in line.split("|")[2:-1]] for line in text.splitlines() if line.startswith("|")]
    assert lines[2:] == [
        ["rot", "2", "n/a", "n/a", "**0**, later: verify"],
        ["a FIFO", "**1**, 7 files left", "n/a", "n/a", "3"],
    ]
    assert "10 rsync: 1; it; it hung" in text


def test_every_program_that_a_row_needs_has_a_package() -> None:
    assert {name for row in ROWS for name in row.needs} <= PACKAGES.keys()


def test_rows_can_be_listed() -> None:
    done = subprocess.run([*COMMAND, "--list", "--rows", "1,21b"], capture_output=True, text=True, check=True)

    assert [line.split()[0] for line in done.stdout.splitlines()] == ["1", "21b"]


def test_an_unknown_row_is_answered_with_those_there_are() -> None:
    done = subprocess.run([*COMMAND, "--rows", "31"], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "there is no 31; there are 1, 2a" in done.stderr


def test_what_is_missing_is_named_with_its_package(tmp_path: Path) -> None:
    environment = os.environ | {"PATH": str(tmp_path)}

    done = subprocess.run([*COMMAND, "--rows", "4"], capture_output=True, text=True, check=False, env=environment)

    assert done.returncode == 2
    assert "error: nbdkit is not on PATH (Debian package nbdkit)\n" in done.stderr
    assert "error: rsync: rsync is not on PATH (Debian package rsync)\n" in done.stderr
