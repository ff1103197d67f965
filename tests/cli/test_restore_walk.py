"""What README's section on restores has a new user type, typed in a copy of the project; and a restore by `cp`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.faults.rig import Rig
from tests.faults.trees import tree_of

ROOT = Path(__file__).resolve().parents[2]


def test_the_bad_day_of_the_readme_ends_well(tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text("utf-8").partition("\n## Restore\n")[2]
    [block] = re.findall(r"^```console\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[:1]
    lines = [line.removeprefix("$ ").partition("   #")[0] for line in block.splitlines() if line.startswith("$ ")]
    shutil.copytree(ROOT / "config", tmp_path / "config")
    for name in ("source", "mirror", "logs"):
        (tmp_path / "data" / name).mkdir(parents=True)
    subprocess.run(["cp", "-a", "config/sample/.", "data/source/"], cwd=tmp_path, check=True)
    program = tmp_path / ".venv" / "bin" / "truecopy"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m job "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path / "state")}
    script = "\n".join(["set -e", f"{program} run --once -q", *lines])

    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, (done.stdout, done.stderr)
    assert len(lines) == 9
    assert re.search(r"^20\d{6}T\d{6}Z .*the source got a newer one", done.stdout, re.MULTILINE)
    found = {path for path in tree_of(tmp_path / "data" / "source") if b".before-restore-" not in path}
    sample = tree_of(ROOT / "config" / "sample")
    assert found == sample.keys()
    for path in sample:
        if sample[path].kind == "-":
            assert (tmp_path / "data" / "source" / os.fsdecode(path)).read_bytes() == (
                ROOT / "config" / "sample" / os.fsdecode(path)
            ).read_bytes()


def test_cp_brings_a_whole_mirror_back_and_what_it_takes_along_is_in_no_backup(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig")
    (rig.source / "folder").mkdir(mode=0o750)
    (rig.source / "folder" / "file").write_text("content")
    (rig.source / "link").symlink_to("folder")
    rig.once()
    wanted = rig.wanted
    shutil.rmtree(rig.source)
    rig.source.mkdir()

    subprocess.run(["cp", "-a", f"{rig.mirror}/.", rig.source], check=True)
    done = rig.once()

    assert {path: thing for path, thing in rig.wanted.items() if path} == {p: t for p, t in wanted.items() if p}
    assert (rig.source / ".truecopy").is_dir()
    assert done.code == 0
    assert not (rig.mirror / ".truecopy" / ".truecopy").exists()
