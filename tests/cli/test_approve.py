"""`truecopy approve`, and what `plan`, `status`, `run` and the metrics say of a held pair, as a person types it."""

import json
import os
from pathlib import Path

import pytest

from tests.faults.rig import Rig

FILES = 150


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def held(rig: Rig) -> Rig:
    for number in range(FILES):
        (rig.source / f"file {number}").write_text(f"content {number}")
    assert rig.run("run", "--once").code == 0
    for number in range(FILES):
        (rig.source / f"file {number}").write_bytes(os.urandom(50))
    (rig.source / "new").write_text("new")
    assert rig.run("run", "--once").code == 4
    return rig


def mirrored(rig: Rig) -> set[bytes]:
    return {path.read_bytes() for path in rig.mirror.iterdir() if path.is_file()}


def test_a_person_looks_at_the_plan_and_releases_it(held: Rig) -> None:
    planned = held.run("plan", "--json")
    lines = [json.loads(line) for line in planned.stdout.splitlines()]
    [about] = [line for line in lines if line["action"] == "brake"]
    assert planned.code == 4
    assert (about["reason"], about["files"], len(about["examples"])) == ("share", FILES, 10)
    assert {line["path"] for line in lines if line["action"] == "hold"} == {f"file {number}" for number in range(FILES)}
    assert about["plan"] in held.run("plan").stdout
    assert (held.mirror / "new").read_text() == "new"

    status = held.run("status", "--check")
    assert status.code == 4
    assert "held by the brake (share)" in status.stdout
    [pair] = json.loads(held.run("status", "--json").stdout)["pairs"]
    assert (pair["verdict"], pair["held"]["files"], pair["brake"]) == ("held", FILES, True)

    assert held.run("approve", "source", "--plan", "0" * 32).code == 4
    assert held.run("approve", "source", "--plan", about["plan"]).code == 0
    assert held.run("approve", "source").code == 4
    assert held.run("run", "--once").code == 0
    assert mirrored(held) == {path.read_bytes() for path in held.source.iterdir()}
    assert held.run("approve", "source").code == 4
    assert held.run("plan").code == 0


def test_the_exit_code_of_an_unknown_pair_or_one_that_was_never_held(rig: Rig) -> None:
    assert rig.run("approve", "nobody").code == 2
    assert rig.run("approve", "source").code == 4


def test_every_surface_says_that_the_brake_is_off(rig: Rig) -> None:
    (rig.source / "file").write_text("1")
    rig.configure(brake=False)

    done = rig.run("run", "--once")

    assert done.the("pair_started")["brake"] is False
    assert "brake is off" in done.the("pair_started")["message"]
    assert "brake is off" in rig.run("plan").stdout
    assert "brake is off" in rig.run("status").stdout
    assert rig.metric("brake_enabled") == 0
