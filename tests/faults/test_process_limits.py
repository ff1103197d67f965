"""Few processes: where no worker, or no thread of one, is to be had, the main process does all the work."""

import os
import resource
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.faults.trees import plant_folders

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_tool("setpriv"),
    pytest.mark.one_process,  # the test says itself how many workers there are
]

FOLDERS = 12


@pytest.mark.parametrize("processes", [1, 2], ids=["not one worker", "no threads in workers"])
def test_where_no_process_is_to_be_had_the_main_process_does_it_all(rig: Rig, processes: int) -> None:
    rig.finely = True
    rig.configure(workers=2, workers_from=0)
    plant_folders(rig.source, FOLDERS)
    user = 54_321  # of whom there are no other processes
    for folder in (rig.source, rig.mirror, *rig.source.rglob("*")):
        os.chown(folder, user, user)
    limits = resource.RLIMIT_NPROC, (processes, processes)
    prefix = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--bounding-set=-all")
    with open_to_all(rig.base):
        done = rig.once(prefix=prefix, limit=lambda: resource.setrlimit(*limits))

    assert done.code == 0
    assert done.counts == (2 * FOLDERS, 0, 0, 0)
    assert rig.mirrored == rig.wanted


class open_to_all:  # noqa: N801  # reads as a phrase
    """Let everybody reach a folder of pytest's for a while."""

    def __init__(self, folder: Path) -> None:
        self._folders = [each for each in (folder, *folder.parents) if each.owner() == "root" and len(each.parts) > 2]

    def __enter__(self) -> None:
        self._modes = [(each, each.stat().st_mode & 0o7777) for each in self._folders]
        # Others may write to the last one only: root believes no configuration below such a folder, in any test.
        for folder, mode in self._modes:
            folder.chmod(mode | (0o077 if folder == self._folders[0] else 0o055))

    def __exit__(self, *_: object) -> None:
        for folder, mode in self._modes:
            folder.chmod(mode)
