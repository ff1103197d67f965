"""A day of ransomware over a real tree, then 40 days of cycles on a moved clock: the day before comes back whole.

The clock begins 41 days ago, so that the command line, which has the real one, restores what the versions are named by.
"""

import json
import random
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from job.core.outcome import Result
from tests.engine.workshop import HOUR_NS, Workshop
from tests.faults.rig import environment

ROOT = Path(__file__).resolve().parents[2]
DAY_NS = 24 * HOUR_NS
TREE = ("job/core", "job/config", "config/monitoring/prometheus")
"""Folders of this project, whose files are what is hit."""


def files(root: Path) -> dict[str, bytes]:
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def attack(shop: Workshop) -> None:
    """Overwrite 60 % of the files, and rename them once a cycle has met them; the others are hit in the next cycle."""
    chance = random.Random(20261130)
    paths = [shop.source / name for name in files(shop.source)]
    hit = chance.sample(paths, len(paths) * 6 // 10)
    for half in (hit[::2], hit[1::2]):
        for path in half:
            path.write_bytes(chance.randbytes(path.stat().st_size + 1))
        shop.ahead_ns += HOUR_NS
        assert shop.cycle().result is Result.SUCCESS
        for path in half:
            path.rename(f"{path}.locked")


def restored(shop: Workshop, at: float, to: Path) -> dict[str, bytes]:
    """Restore all of a copy of the mirror by the command line; without its index the version folders decide."""
    mirror = shop.base / "copy"
    shutil.rmtree(mirror, ignore_errors=True)
    shutil.copytree(shop.mirror, mirror, symlinks=True)
    for path in (mirror / ".truecopy").glob("index*"):
        path.unlink()
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    config = shop.base / "config.json"
    pair = {"name": "music", "source": str(shop.source), "dest": str(mirror)}
    config.write_text(json.dumps({"pairs": [pair], "metrics": {"enabled": False}}))
    when = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S+00:00}"
    command = ["-m", "job", "--config", str(config), "restore", "--at", when, "--to", str(to)]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 3}, done.stderr + done.stdout
    return files(to)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("keep", [60, 30])
def test_the_day_before_an_attack_is_restored_byte_for_byte_as_long_as_it_is_kept(shop: Workshop, keep: int) -> None:
    shop.options = {"sleep_time": 86400, "versions": {"keep": f"{keep} days"}, "audit_interval": 0}
    for each in TREE:
        shutil.copytree(ROOT / each, shop.source / each, ignore=shutil.ignore_patterns("__pycache__"))
    shop.ahead_ns = -41 * DAY_NS
    assert shop.cycle().result is Result.SUCCESS
    before, day_before = files(shop.source), shop.now_ns() / 1e9 + 1800
    attack(shop)

    lost_on = 0
    for number in range(1, 41):
        shop.ahead_ns += DAY_NS - (2 * HOUR_NS if number == 1 else 0)
        shop.write("diary", f"day {number}")
        assert shop.cycle().result is Result.SUCCESS
        if number in {1, 28, 29, 31, 40}:
            found = restored(shop, day_before, shop.base / "back")
            if not lost_on and before.items() - found.items():
                lost_on = number

    assert lost_on == (0 if keep == 60 else 31)
