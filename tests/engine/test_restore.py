"""A restore in this process: stopped, kept out by a cycle, restricted by the kernel."""

import os
import time
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest

from job.app.restore_setup import Restorer, StopRequest, open_kept, open_restorer
from job.config.load import read_config
from job.core.entry import Kind
from job.engine.restore.choice import Request
from job.engine.restore.file import rename_new
from job.errors import Busy, Stopped
from job.locking import lock
from job.system.sandbox import why_unavailable
from tests.cli.test_restore import OLD, keep
from tests.faults.rig import Rig
from tests.faults.trees import temps_below


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "folder").mkdir()
    for number in range(20):
        (rig.source / "folder" / f"file {number:02}").write_text(f"content {number}")
    rig.once()
    return rig


def opened(rig: Rig, stops: Iterator[bool], patience: float = 0.0) -> "Opened":
    return Opened(rig, StopRequest(lambda: next(stops), lambda _: False, patience))


class Opened:
    """An open restore of the whole pair."""

    def __init__(self, rig: Rig, stop: StopRequest) -> None:
        config = read_config(str(rig.config), {}).config
        request = Request([b""], None, overwrite=False, suffix=b".old")
        self._context = open_restorer(
            config, config.effective_pairs[0], str(rig.base / "out"), request, lambda _: None, stop
        )

    def __enter__(self) -> Restorer:
        return self._context.__enter__()

    def __exit__(self, *error: object) -> bool | None:
        return self._context.__exit__(*error)  # type: ignore[arg-type]


def test_a_stopped_restore_leaves_no_temp(rig: Rig) -> None:
    with opened(rig, chain(repeat(False, 7), repeat(True))) as restorer, pytest.raises(Stopped):
        list(restorer.tree.run())

    assert temps_below(rig.base / "out") == []
    assert not list((rig.base / "out").rglob("file*")), "nothing was synced yet"


def test_a_restore_whose_results_are_not_read_to_the_end_leaves_no_temp(rig: Rig) -> None:
    with opened(rig, repeat(False)) as restorer:
        run = restorer.tree.run()
        next(run)
        run.close()

    assert temps_below(rig.base / "out") == []
    assert len(list((rig.base / "out").rglob("file*"))) == 20, "names of one batch are synced before the first result"


def test_a_cycle_that_does_not_end_keeps_a_restore_out(rig: Rig) -> None:
    state = os.open(rig.state, os.O_RDONLY)
    held = lock.acquire(state, "source", time.time())
    try:
        with pytest.raises(Busy, match="another instance works on the mirror of source"), opened(rig, repeat(False)):
            pass
    finally:
        os.close(held)
        os.close(state)

    assert not (rig.base / "out").exists()


@pytest.mark.skipif(bool(why_unavailable()), reason="no Landlock")
def test_a_restore_can_be_required_to_be_restricted(rig: Rig) -> None:
    rig.configure(landlock="required")

    done = rig.run("restore", "--to", str(rig.base / "out"))

    assert done.code == 0, done
    assert len(list((rig.base / "out").rglob("file*"))) == 20


def test_version_folders_that_lack_a_folder_are_not_asked_below_it(rig: Rig) -> None:
    for number in range(1, 9):
        keep(rig, f"2026110{number}T100000Z", "top", "older")
    keep(rig, OLD, "folder/file 00", "older")
    config = read_config(str(rig.config), {}).config

    with open_kept(config, config.effective_pairs[0]) as (_, kept):
        root = kept.root
        found, unreadable = kept.contents(root)
        places = root.below(b"folder", found[b"folder"])

        assert unreadable == []
        assert len(root.moments) == 8
        assert [each.name.decode() for each in places.moments] == [OLD]
        assert places.in_mirror
        assert [each.kept.kind for each in found[b"top"]] == [Kind.FILE] * 8


def test_a_new_name_is_never_taken_from_another(folder: int, tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("restored")
    (tmp_path / "name").write_text("was there")

    with pytest.raises(FileExistsError):
        rename_new(b"temp", b"name", folder)
    rename_new(b"temp", b"free", folder)

    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"name": "was there", "free": "restored"}
