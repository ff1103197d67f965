"""The benchmark from its command line, with the real job and the peers that are here."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.bench import check, command
from tests.bench.tools import ROOT, TOOLS
from tests.bench.works import WORKS


def bench(folder: Path, *options: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    """Run the quick form with small trees and one round; the scratch folder has to be empty again after it."""
    scratch = folder / "scratch"
    scratch.mkdir()
    tiny = ["--quick", "--runs", "1", "--large", "1", "--scratch", str(scratch)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/bench/run.py"), *tiny, *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path},
    )
    assert not list(scratch.iterdir())
    return done


def test_the_quick_benchmark_runs_with_the_real_job_and_writes_figures_and_chart(tmp_path: Path) -> None:
    figures_file, picture = tmp_path / "figures.json", tmp_path / "chart.svg"

    done = bench(tmp_path, "--sizes", "20", "--json", str(figures_file), "--svg", str(picture))

    assert done.returncode == 0, done.stderr
    figures = json.loads(figures_file.read_text())
    timed = [(work["work"], work["size"]) for work in figures["works"] if work["work"] != "standing"]
    assert {name for name, _ in timed} == {work.name for work in WORKS}
    assert {size for name, size in timed if name.startswith("unchanged")} == {20}
    assert all(work["missing"] or work["peak_pss_bytes"]["truecopy"] for work in figures["works"])
    assert figures["versions"].keys() | figures["absent"].keys() == {tool.name for tool in TOOLS}
    assert all(work["title"] in done.stdout for work in figures["works"])
    assert ET.parse(picture).getroot().tag.endswith("svg")


def test_each_size_that_is_asked_for_is_measured(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    works = ["--sizes", "20,60", "--works", "unchanged", "--tools", "truecopy,cp", "--json", str(figures)]

    done = bench(tmp_path, *works)

    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())["works"]
    assert {work["size"] for work in found if work["work"] == "unchanged"} == {20, 60}
    assert "times the time" in done.stdout


def test_a_peer_that_makes_another_tree_ends_it_with_1_and_no_figures(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    liar = tmp_path / "bin" / "rsync"
    liar.write_text('#!/bin/sh\n[ "$1" = --version ] || { cp -a "$2." "$3" && echo >"$3/surplus"; }\n')
    liar.chmod(0o755)
    figures = tmp_path / "figures.json"
    works = ["--sizes", "50", "--works", "unchanged", "--tools", "truecopy,rsync", "--json", str(figures)]

    done = bench(tmp_path, *works, path=f"{liar.parent}:{os.environ['PATH']}")

    assert done.returncode == 1
    assert "rsync made another tree" in done.stderr
    assert "too much: 'surplus'" in done.stderr
    assert done.stdout == ""
    assert not figures.exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--works", "polishing"], "there is no polishing; there are first_copy_tmpfs,"),
        (["--tools", "rsync"], "--tools needs truecopy"),
        (["--sizes", "0"], "less than 1"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_words(options: list[str], told: str, tmp_path: Path) -> None:
    done = bench(tmp_path, *options)

    assert done.returncode == 2
    assert told in done.stderr


def test_the_check_is_for_the_sizes_that_have_bounds(tmp_path: Path) -> None:
    run = [sys.executable, str(ROOT / "tests/bench/run.py"), "--check", "--scratch", str(tmp_path)]

    done = subprocess.run(run, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "--quick" in done.stderr


@pytest.mark.parametrize(("bound", "code"), [(1e-6, 1), (1e6, 0)])
def test_a_ratio_above_its_bound_in_two_measurements_ends_it_with_1(
    bound: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "BOUNDS", {("unchanged", "cp"): bound})
    tiny = ["--quick", "--check", "--sizes", "30", "--runs", "1", "--works", "unchanged", "--tools", "truecopy,cp"]
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ended = command.main([*tiny, "--scratch", str(tmp_path)])
    finally:
        signal.signal(signal.SIGTERM, handler)

    told = capsys.readouterr()
    assert ended == code
    assert told.err.count("once more") == code
    assert told.err.count("the bound is 1e-06") == code
    assert "nothing changed, 30 files" in told.out
