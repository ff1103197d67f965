"""`--pair` of `run`, `plan` and `compare`: these pairs, and nothing of the others is touched or forgotten."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    configure(rig)
    return rig


def pair_of(rig: Rig, name: str) -> dict[str, str]:
    source, mirror = rig.base / f"{name}-source", rig.base / f"{name}-mirror"
    for folder in (source, mirror):
        folder.mkdir(exist_ok=True)
    (source / name).write_text(name)
    return {"name": name, "source": str(source), "dest": str(mirror)}


def configure(rig: Rig, names: tuple[str, ...] = ("photos", "music"), **options: Any) -> None:
    rig.configure(pairs=[pair_of(rig, name) for name in names], **options)


def copied(rig: Rig, name: str) -> bool:
    return (rig.base / f"{name}-mirror" / name).exists()


def test_one_pair_of_several_is_backed_up(rig: Rig) -> None:
    done = rig.run("run", "--once", "--pair", "music")

    assert (done.code, done.copied) == (0, {"music"})
    assert (copied(rig, "music"), copied(rig, "photos")) == (True, False)
    assert done.the("cycle_started")["pairs"] == ["music"]


def test_several_may_be_named(rig: Rig) -> None:
    configure(rig, ("photos", "music", "mail"))

    done = rig.run("run", "--once", "--pair", "mail", "--pair", "photos")

    assert [line["pair"] for line in done.of("pair_finished")] == ["photos", "mail"]


def test_pairs_that_are_left_out_keep_their_metrics_and_their_history(rig: Rig) -> None:
    rig.once()
    before = rig.metric("last_success_timestamp_seconds", pair="photos")
    statuses = json.loads(rig.run("status", "--json").stdout)["pairs"]
    (rig.base / "photos-source/new").write_text("new")

    rig.run("run", "--once", "--pair", "music")

    assert rig.metric("last_success_timestamp_seconds", pair="photos") == before
    assert rig.metric("files_copied_total", pair="photos") == 1
    assert rig.metric("last_success_timestamp_seconds", pair="music") > before
    assert json.loads(rig.run("status", "--json").stdout)["pairs"][0]["last_success"] == statuses[0]["last_success"]


@pytest.mark.parametrize("command", [("run", "--once"), ("run",), ("plan",), ("compare",), ("status",)], ids=" ".join)
def test_an_unknown_pair_is_2_and_names_the_nearest_and_all(rig: Rig, command: tuple[str, ...]) -> None:
    done = rig.run(*command, "--pair", "musik")

    assert (done.code, done.stdout) == (2, "")
    assert "There is no pair 'musik'. Did you mean 'music'? The pairs are: photos, music." in done.stderr
    assert not copied(rig, "music")


def test_a_mirror_that_another_pair_has_too_is_refused_though_that_one_is_left_out(rig: Rig) -> None:
    (rig.base / "link").symlink_to(rig.base / "music-mirror")
    pairs = [pair_of(rig, "music"), {"name": "copy", "source": str(rig.source), "dest": str(rig.base / "link")}]
    rig.configure(pairs=pairs)

    run, plan = rig.run("run", "--once", "--pair", "music"), rig.run("plan", "--pair", "music")

    assert (run.code, plan.code) == (4, 4)
    assert not copied(rig, "music")


def test_plan_and_compare_speak_of_the_named_pair_only(rig: Rig) -> None:
    plan = rig.run("plan", "--pair", "music", "--json")
    compare = rig.run("compare", "--pair", "music", "--json")

    assert {line["pair"] for line in plan.lines} == {line["pair"] for line in compare.lines} == {"music"}


def test_a_service_keeps_to_its_pairs_as_long_as_it_runs(rig: Rig) -> None:
    with rig.started("run", "--pair", "music") as service:
        service.wait_for("pair_finished", count=2)
        assert {line["pair"] for line in service.lines if "pair" in line} == {"music"}

        configure(rig, ("photos", "music", "mail"))
        service.wait_for("config_reloaded")
        configure(rig, ("photos", "mail"))
        rejected = service.wait_for("config_rejected")
        service.wait_for("pair_finished", count=len(service.lines) and 4)
        service.end(signal.SIGTERM)

    assert "it has no pair music" in rejected["error"]
    assert {line["pair"] for line in service.lines if "pair" in line} == {"music"}
    assert not copied(rig, "photos")
