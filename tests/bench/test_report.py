"""What is made of the figures: ratios, growth, verdicts, tables, the chart, and what CI holds them to."""

from xml.etree import ElementTree as ET

import pytest

from tests.bench import chart, check, readme, report, results, targets
from tests.bench.measure import Cost
from tests.bench.results import OURS, Result
from tests.bench.targets import TARGETS
from tests.bench.tools import TOOLS
from tests.bench.works import STANDING, WORKS

WORK = {work.name: work for work in WORKS}
HEAD: dict[str, object] = {
    "date": "2026-11-23T06:35:34+00:00",
    "machine": {"processor": "Z80", "cores": 1, "memory_bytes": 65536, "kernel": "6.1-x", "python": "3.11.7"},
    "versions": {OURS: "0.1.0 (0123abc)", "rsync": "rsync version 3.5.0 protocol 32", "original": "Python 3.11.7"},
    "absent": {"rclone": "not on PATH"},
    "file_systems": {"disk": "ext4", "tmpfs": "tmpfs"},
}


def a_result(name: str, size: int, memory: int = 1 << 20, **seconds: float) -> Result:
    costs = {tool: [Cost(each, each)] for tool, each in seconds.items()}
    return Result(WORK[name], size, costs, dict.fromkeys(costs, memory))


def verdicts(*found: Result) -> dict[tuple[str, str], str]:
    return {(line.work, line.against): line.verdict for line in targets.lines(found)}


def test_ratios_are_taken_round_by_round_and_shown_as_median_with_extremes() -> None:
    found = results.ratio([1.0, 4.0, 9.0], [2.0, 2.0, 3.0])

    assert found == (2.0, 0.5, 3.0)
    assert str(found) == "2.00 (0.50..3.00)"


def test_a_tool_that_sat_out_the_later_rounds_is_compared_in_the_first() -> None:
    assert results.ratio([1.0, 100.0], [2.0]) == (0.5, 0.5, 0.5)


def test_growth_compares_each_size_with_the_next_smaller_one_that_the_tool_did() -> None:
    small, large = a_result("unchanged", 100, truecopy=1.0, cp=1.0), a_result("unchanged", 1000, truecopy=8.0)

    found = results.growths([large, small, a_result("changed", 1000, truecopy=1.0)])

    assert [(each.tool, each.smaller, each.larger, each.times) for each in found] == [(OURS, 100, 1000, 8.0)]


def test_what_is_written_can_be_read_again() -> None:
    first = [a_result("unchanged", 100, truecopy=1.0, rsync=2.0), Result(WORK["changed"], 5, missing="no room")]

    head, again = results.read(results.written(HEAD, first))

    assert (head, again) == (HEAD, first)


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "as wanted"), (0.41, "met"), (0.5, "met"), (0.51, "missed")])
def test_a_target_is_missed_met_or_met_as_wanted(seconds: float, said: str) -> None:
    found = verdicts(a_result("unchanged", 100_000, truecopy=seconds, rsync=1.0))

    assert found["nothing changed, 100,000 files", "`rsync -a`"] == said


def test_a_size_below_that_of_the_target_is_shown_and_not_judged() -> None:
    found = verdicts(a_result("unchanged", 10_000, truecopy=0.1, rsync=1.0))

    assert found["nothing changed, 10,000 files", "`rsync -a`"] == targets.TOO_SMALL
    assert found["nothing changed, 1,000,000 files", "`rsync -a`"] == targets.NOT_MEASURED


def test_every_target_is_about_a_work_and_a_tool_that_there_are() -> None:
    assert {target.work for target in TARGETS} <= WORK.keys()
    assert {target.peer for target in TARGETS} <= {tool.name for tool in TOOLS}
    assert all(target.wanted is None or target.wanted < target.at_most for target in TARGETS)


@pytest.mark.parametrize(("million", "said"), [(10.9, "met"), (11.1, "missed")])
def test_ten_times_the_files_may_take_eleven_times_the_time(million: float, said: str) -> None:
    sizes = {100_000: 1.0, 1_000_000: million}

    found = verdicts(*(a_result("unchanged", size, truecopy=each) for size, each in sizes.items()))

    assert found["nothing changed, 1,000,000 files", "itself, 100,000 files"] == said


def test_memory_is_told_for_every_work_on_the_largest_tree_and_for_making_its_mirror() -> None:
    small = a_result("unchanged", 10, memory=10**9, truecopy=1.0)
    stood = Result(STANDING, 1_000_000, memory={OURS: 149 * 10**6})
    large = a_result("unchanged", 1_000_000, memory=151 * 10**6, truecopy=1.0)

    lines = [line for line in targets.lines([small, stood, large]) if line.against == "memory of all processes"]

    assert [(line.work, line.measured, line.verdict) for line in lines] == [
        ("first copy, 1,000,000 files", "149 MB", "met"),
        ("nothing changed, 1,000,000 files", "151 MB", "missed"),
    ]


def test_the_table_says_which_tool_is_absent_and_which_work_was_not_run() -> None:
    found = [
        a_result("first_copy_tmpfs", 9, truecopy=1.0, rsync=4.0, cp=0.5),
        Result(WORK["changed"], 9, missing="no room"),
    ]

    text = report.whole(HEAD, found)
    cells = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines()]

    assert ["truecopy against", "rsync", "rclone", "cp"] in cells
    assert ["first copy, tmpfs, 9 files", "0.25 (0.25..0.25)", "absent", "2.00 (2.00..2.00)"] in cells
    assert ["1 % changed, durable, 9 files", "-", "absent", "-"] in cells
    assert "rclone: not on PATH" in text
    assert "no room" in text


def test_the_readme_says_on_what_it_was_measured_and_a_line_for_every_target() -> None:
    found = [
        a_result("unchanged", 100_000, truecopy=0.3, rsync=1.0),
        a_result("large_sha256", 3 << 30, truecopy=2.0, cp=1.0),
    ]

    text = readme.section(results.written(HEAD, found))

    assert "2026-11-23: 1 cores of Z80, 64 KiB of memory, Linux 6.1, Python 3.11.7; ext4, tmpfs; " in text
    assert f"{OURS} 0.1.0 (0123abc), rsync 3.5.0." in text
    assert "0.30 (0.30..0.30) | as wanted" in text
    assert "one file of 3 GiB, SHA-256 " in text
    assert "2.00 (2.00..2.00) | missed" in text
    assert sum(line.startswith("| ") for line in text.splitlines()) == 2 + len(TARGETS) + 3


def test_the_chart_has_a_bar_for_each_ratio_and_marks_the_targets_of_the_sizes_that_have_one() -> None:
    found = [
        a_result("unchanged", 10_000, truecopy=3.0, rsync=1.0),
        a_result("unchanged", 100_000, truecopy=0.3, rsync=1.0, cp=0.02),
    ]

    root = ET.fromstring(chart.drawn(HEAD, found))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    bars = [
        float(element.attrib["width"]) for element in root.iter("{http://www.w3.org/2000/svg}rect") if element.get("x")
    ]
    marks = list(root.iter("{http://www.w3.org/2000/svg}path"))

    assert {"3.0", "0.30", "15"} <= set(texts)
    assert len(bars) == 3 + 2
    assert len(marks) == 1 + 1
    assert texts.index("nothing changed, 10,000 files") < texts.index("nothing changed, 100,000 files")


def test_a_bar_goes_left_where_we_are_quicker_and_twice_is_as_far_from_one_as_half() -> None:
    scale = chart.Scale([0.5, 2.0])

    left, middle, right = scale.at(0.5), scale.at(1.0), scale.at(2.0)

    assert left < middle < right
    assert right - middle == pytest.approx(middle - left)
    assert scale.at(100.0) == right


def test_a_chart_of_nothing_is_still_a_picture() -> None:
    assert ET.fromstring(chart.drawn(HEAD, [])).tag.endswith("svg")


def test_a_ratio_above_its_bound_is_named_and_one_below_or_without_a_bound_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(check, "BOUNDS", {("unchanged", "rsync"): 3.0, ("changed", "rsync"): 3.0})
    bad = a_result("unchanged", 10, truecopy=3.1, rsync=1.0, cp=0.001)
    good = a_result("changed", 10, truecopy=2.9, rsync=1.0)

    assert check.broken([bad, good]) == ["nothing changed, 10 files, against rsync: 3.10 (3.10..3.10), the bound is 3"]


def test_every_bound_is_about_a_work_and_a_tool_that_there_are() -> None:
    assert {work for work, _ in check.BOUNDS} == WORK.keys()
    assert {peer for _, peer in check.BOUNDS} <= {tool.name for tool in TOOLS}
