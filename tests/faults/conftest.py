"""What the tests of faults share: a rig of their own, cleaned up whatever modes are left in it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.outside import Outside
from tests.faults.rig import UNPRIVILEGED, Rig
from tests.faults.trees import unlock


@pytest.fixture
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    # A tracer counts the calls of each thread apart; so that the n-th is the n-th, all the work is done by one.
    traced = any(marker.args == ("strace",) for marker in request.node.iter_markers("needs_tool"))
    yield Rig(tmp_path, sandboxed=not traced)
    unlock(tmp_path)


@pytest.fixture
def unprivileged() -> tuple[str, ...]:
    """Give the command prefix that makes a user like any other of root."""
    if os.geteuid() == 0 and not shutil.which(UNPRIVILEGED[0]):
        pytest.skip(f"{UNPRIVILEGED[0]} is not on PATH")
    return UNPRIVILEGED


@pytest.fixture
def outside(rig: Rig) -> Iterator[Outside]:
    """Something that nobody may touch; and a source with an entry of each kind."""
    (rig.source / "below" / "sub").mkdir(parents=True)
    for name in ("file", "below/file", "below/sub/file"):
        (rig.source / name).write_text(f"ours: {name}")
    (rig.source / "link").symlink_to("file")
    found = Outside(rig.base)
    yield found
    found.is_untouched()
    found.is_told_nowhere(rig)
