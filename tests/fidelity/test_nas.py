"""Mirrors on storage of many natures: what it cannot hold is told, and nothing is done twice."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.faults.trees import temps_below
from tests.fidelity import foreign
from tests.fidelity.nature import NATURES, Nature
from tests.fidelity.small import not_kept, nothing_done, rig_in

pytestmark = [*foreign.NAS]


@contextmanager
def rig_on(base: Path, nature: str, *, aged: bool = False) -> Iterator[Rig]:
    with foreign.nas(base / "mirror", NATURES[nature]):
        yield rig_in(base, aged=aged)


@pytest.mark.parametrize("nature", NATURES)
def test_a_second_cycle_on_network_storage_copies_nothing(tmp_path: Path, nature: str) -> None:
    with rig_on(tmp_path, nature, aged=True) as rig:
        first = rig.once()
        assert first.counts == (5, 0, 0, 0), first.stdout
        nothing_done(rig.once(), 5)


def test_mode_and_owner_that_a_server_takes_and_forgets_are_told(tmp_path: Path) -> None:
    with rig_on(tmp_path, "smb") as rig:
        assert not_kept(rig.once()) == {"mode", "owner"}


def test_a_grain_of_two_seconds_is_no_loss_of_times_but_to_refuse_them_is(tmp_path: Path) -> None:
    with rig_on(tmp_path / "fat", "fat") as rig:
        assert "times" not in not_kept(rig.once())
    with rig_on(tmp_path / "none", "unimplemented") as rig:
        assert "times" in not_kept(rig.once())


def test_a_file_system_that_knows_no_chmod_holds_the_state_folder_too(tmp_path: Path) -> None:
    with rig_on(tmp_path, "unimplemented") as rig:
        assert rig.once().code == 0
        assert (rig.state / "README.txt").exists()


def test_a_file_larger_than_the_mirror_can_hold_fails_alone(tmp_path: Path) -> None:
    with foreign.nas(tmp_path / "mirror", Nature(largest=1 << 20)):
        rig = rig_in(tmp_path)
        (rig.source / "large").write_bytes(bytes((1 << 20) + 1))
        done = rig.once()
        assert done.failed == {"large": "too_large"}
        assert len(done.copied) == 5
        assert temps_below(rig.mirror) == []
