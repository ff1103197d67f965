"""The loop that Truecopy came from, as the benchmark has it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.bench import trees
from tests.bench.tools import ROOT


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
