"""How many cores are counted, with a real affinity and in control groups made up as files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from job.system.resources import MAX_DEFAULT_WORKERS, default_workers, usable_cores

HERE = len(os.sched_getaffinity(0))


def group(tree: Path, place: str, **values: str) -> None:
    folder = tree / place
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name.replace("_", ".", 1)).write_text(value + "\n")


def cores(tmp_path: Path, membership: str) -> int:
    (tmp_path / "membership").write_text(membership)
    return usable_cores(str(tmp_path / "membership"), str(tmp_path / "tree"))


@pytest.mark.parametrize(
    ("quota", "counted"),
    [("max 100000", HERE), ("100000 100000", 1), ("1000 100000", 1), ("100001 100000", min(2, HERE)), ("soon", HERE)],
)
def test_a_quota_is_rounded_up_to_whole_cores(tmp_path: Path, quota: str, counted: int) -> None:
    group(tmp_path / "tree", "", cpu_max=quota)

    assert cores(tmp_path, "0::/\n") == counted


@pytest.mark.parametrize("place", ["", "pods", "pods/this"])
def test_the_tightest_group_of_all_around_us_counts(tmp_path: Path, place: str) -> None:
    group(tmp_path / "tree", "pods/this", cpu_max="max 100000")
    group(tmp_path / "tree", "pods/other", cpu_max="1 100000")
    group(tmp_path / "tree", place, cpu_max="50000 100000")

    assert cores(tmp_path, "0::/pods/this\n") == 1


def test_a_group_beside_ours_does_not_count(tmp_path: Path) -> None:
    group(tmp_path / "tree", "other", cpu_max="1000 100000")

    assert cores(tmp_path, "0::/pods/this\n") == HERE


@pytest.mark.parametrize("place", ["cpu,cpuacct/docker/this", "cpu,cpuacct"])
def test_groups_of_the_first_version_count_too(tmp_path: Path, place: str) -> None:
    group(tmp_path / "tree", place, cpu_cfs_quota_us="100000", cpu_cfs_period_us="100000")

    assert cores(tmp_path, "5:memory:/docker/this\n4:cpu,cpuacct:/docker/this\n0::/docker/this\n") == 1


def test_a_group_of_the_first_version_without_a_quota_limits_nothing(tmp_path: Path) -> None:
    group(tmp_path / "tree", "cpu", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")

    assert cores(tmp_path, "4:cpu:/\n") == HERE


@pytest.mark.parametrize("membership", ["", "nonsense\n", "0::\n", "0::/../../..\n"])
def test_what_cannot_be_read_limits_nothing(tmp_path: Path, membership: str) -> None:
    assert cores(tmp_path, membership) == HERE


def test_a_process_that_may_use_one_core_counts_one() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from job.system.resources import usable_cores; print(usable_cores())"
    )

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert told.stdout == "1\n"


def test_nobody_gets_more_than_a_few_processes_unasked() -> None:
    assert 1 <= default_workers() <= min(MAX_DEFAULT_WORKERS, HERE)
