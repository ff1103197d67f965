"""Somebody plants things where logs and the textfile are to be, or fills their disk: it is told, no copy suffers."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.faults.outside import SHARE, Outside
from tests.faults.rig import Rig
from tests.faults.tampering import mounted

pytestmark = [
    pytest.mark.needs_root,  # for devices
    pytest.mark.usefixtures("outside"),
    pytest.mark.one_process,  # only the main one writes these
]
OUTPUTS = {"log_file": "log", "error_log_file": "error_log", "textfile": "textfile"}
REPLACED = {"link to a file", "link to a folder", "dangling link", "fifo", "socket", "device"}
"""A textfile is put in place whole, by rename: what had its name before is neither followed nor opened."""


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", SHARE)
def test_what_is_planted_for_a_log_or_textfile_is_not_written_to_and_the_copy_goes_on(
    rig: Rig, outside: Outside, kind: str, output: str
) -> None:
    path: Path = getattr(rig, OUTPUTS[output])
    outside.plant(kind, path)
    (rig.source / ".truecopy-tmp-x").touch()  # fails, so that there is something for the error log

    done = rig.once()

    assert done.code == 3
    assert (rig.mirror / "file").read_text() == "ours: file"
    if output == "textfile" and kind in REPLACED:
        assert not done.of("output_failed")
        assert rig.metric("cycles_total", result="partial") == 1
        return
    assert {line["output"] for line in done.of("output_failed")} == {output}
    if output != "textfile":
        assert rig.metric("output_failures_total", output=output) >= 1


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    "kind", ["fifo", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("dangling link", "device"))]
)
def test_what_is_planted_above_a_log_or_textfile_is_told_and_the_copy_goes_on(
    rig: Rig, outside: Outside, kind: str, output: str
) -> None:
    above = rig.base / "logs"
    outside.plant(kind, above)
    metrics = {"enabled": False, "textfile": str(rig.textfile)}
    if output == "textfile":
        rig.configure(metrics=metrics | {"textfile": str(above / "file.prom")})
    else:
        rig.configure(**{output: str(above / "file")})
    (rig.source / ".truecopy-tmp-x").touch()

    done = rig.once()

    assert done.code == 3
    assert (rig.mirror / "file").read_text() == "ours: file"
    assert {line["output"] for line in done.of("output_failed")} == {output}


@pytest.mark.parametrize("output", ["log_file", "error_log_file", "textfile"])
def test_a_full_disk_under_a_log_or_textfile_is_told_and_the_copy_goes_on(rig: Rig, output: str) -> None:
    path = rig.base / "small" / Path(getattr(rig, OUTPUTS[output])).name
    place = {"metrics": {"enabled": False, "textfile": str(path)}} if output == "textfile" else {output: str(path)}
    for number in range(60):
        (rig.source / f".truecopy-tmp-{number}").touch()  # for the error log
    with mounted("tmpfs", path.parent, "-t", "tmpfs", "-o", "size=8k"):
        (path.parent / "filler").write_bytes(bytes(4096))
        rig.configure(**place)
        done, again = rig.once(), rig.once()
        held = path.read_text() if path.exists() else ""
        (path.parent / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=1m", str(path.parent)], check=True)
        healed = rig.once()
        told = path.read_text()

    assert (done.code, again.code, healed.code) == (3, 3, 3)
    assert (rig.mirror / "file").read_text() == "ours: file"
    assert {line["output"] for line in done.of("output_failed")} == {output}
    assert {line["output"] for line in again.of("output_failed")} == {output}
    assert all(str(path) in line["error"] for line in (*done.of("output_failed"), *again.of("output_failed")))
    assert not healed.of("output_failed")
    assert told.startswith(held[: held.rfind("\n") + 1])
    if output != "textfile":
        # The line that was begun on the full disk stays torn, but for itself.
        assert all(json.loads(line) for line in told.splitlines()[-60:])
        assert rig.metric("output_failures_total", output=output) == 2, "one for each run on the full disk, and no more"
