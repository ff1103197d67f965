"""Names that anybody took where every user may make names: a run, its hard links and the health check do without."""

import os
import shutil
from pathlib import Path

import pytest

from tests.faults.rig import Rig, environment

pytestmark = [pytest.mark.needs_root, pytest.mark.one_process]

STRANGER = 64003


@pytest.fixture
def taken(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A machine where a stranger made every folder that any version ever had in the folder for temporary files."""
    temp = tmp_path / "temp"
    temp.mkdir()
    temp.chmod(0o1777)
    for name in (f"truecopy-{os.geteuid()}", "truecopy"):
        (temp / name).mkdir()
        os.chown(temp / name, STRANGER, STRANGER)
    monkeypatch.setenv("TMPDIR", str(temp))
    return rig


def test_a_service_is_healthy_and_hard_links_are_kept(taken: Rig) -> None:
    (taken.source / "a").write_text("content")
    os.link(taken.source / "a", taken.source / "b")

    with taken.started("run") as service:
        service.wait_for("cycle_finished", result="success")
        healthy = taken.run("healthcheck")

    assert healthy.stdout.startswith("healthy: "), healthy.stdout
    assert healthy.code == 0
    assert not [line for line in service.lines if line["event"] in {"output_failed", "sandbox_unavailable"}]
    assert taken.mirrored == taken.wanted


def test_a_taken_name_in_a_runtime_folder_is_told_once_as_a_warning(
    taken: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (taken.source / "file").write_text("content")
    monkeypatch.setenv("XDG_RUNTIME_DIR", environment()["TMPDIR"])

    with taken.started("run") as service:
        service.wait_for("cycle_finished", count=2)
        healthy = taken.run("healthcheck")

    (told,) = [line for line in service.lines if line["event"] == "private_folder_skipped"]
    assert told["level"] == "warning"
    assert told["folder"] == str(tmp_path / "temp" / "truecopy")
    assert told["error"].endswith(f"belongs to user {STRANGER}")
    assert healthy.code == 0
    assert not [line for line in service.lines if line["event"] == "output_failed"]


def test_a_service_that_may_write_nowhere_but_to_its_mirror_and_state_is_healthy(
    taken: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (taken.source / "file").write_text("content")
    shutil.rmtree(environment()["TMPDIR"])
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.delenv("XDG_STATE_HOME")

    with taken.started("run") as service:
        service.wait_for("cycle_finished", result="success")
        healthy = taken.run("healthcheck")

    assert healthy.code == 0, healthy.stdout
    assert not [line for line in service.lines if line["event"] in {"output_failed", "private_folder_skipped"}]
