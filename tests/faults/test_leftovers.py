"""Temps of a killed run are swept wherever they lie, also where no folder of the source leads any more."""

import shutil

import pytest

from tests.faults.rig import Rig

pytestmark = pytest.mark.needs_tool("strace")

KILLED_AT_THE_SYNC = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=syncfs", "-e", "inject=syncfs:signal=KILL")


def killed_with_temps(rig: Rig) -> None:
    (rig.source / "gone" / "deep").mkdir(parents=True)
    (rig.source / "gone" / "deep" / "file").write_text("one")
    (rig.source / "stays").write_text("two")
    # One process: of several, the first to sync would be the end of all before the others had written anything.
    rig.configure(**{**rig.options, "workers": 1})
    rig.once(prefix=KILLED_AT_THE_SYNC)
    assert len(rig.temps) == 3  # a file, and a staged folder with another


def test_temps_in_a_folder_that_left_the_source_are_swept(rig: Rig) -> None:
    killed_with_temps(rig)
    shutil.rmtree(rig.source / "gone")

    done = rig.once()

    assert (done.code, rig.temps) == (0, [])
    assert (rig.mirror / "stays").read_text() == "two"


def test_a_mirror_folder_that_went_away_since_is_no_trouble(rig: Rig) -> None:
    killed_with_temps(rig)
    shutil.rmtree(rig.source / "gone")
    shutil.rmtree(rig.mirror / "gone")

    done = rig.once()

    assert (done.code, rig.temps) == (0, [])


def test_notes_that_are_not_ours_lead_nowhere(rig: Rig) -> None:
    (rig.source / "file").write_text("content")
    outside = rig.base / "outside"
    outside.mkdir()
    (outside / ".truecopy-tmp-precious").write_text("precious")
    rig.once()
    (rig.mirror / "link").symlink_to(outside)
    (rig.state / "leftovers").write_bytes(b"../outside\0link\0/\0\xff\0" + bytes(str(outside), "ascii") + b"\0rest")

    done = rig.once()

    assert done.code == 0
    assert (outside / ".truecopy-tmp-precious").read_text() == "precious"


def test_after_a_whole_run_nothing_is_noted(rig: Rig) -> None:
    (rig.source / "file").write_text("content")

    rig.once()

    assert not (rig.state / "leftovers").exists()
