"""The workshop of the test's own."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tasks.workshop import NOBODY, Workshop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    """A source and an empty mirror; a test that leaves a descriptor open fails."""
    before = set(os.listdir("/proc/self/fd"))
    yield Workshop(tmp_path)
    left = {each for each in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{each}")} - before
    assert not [os.readlink(f"/proc/self/fd/{each}") for each in left], "a descriptor was left open"


@pytest.fixture
def open_shop() -> Iterator[Workshop]:
    """A workshop that an ordinary user may enter, with a mirror of theirs; pytest's own folders are root's alone."""
    base = Path(tempfile.mkdtemp(prefix="truecopy-test-"))
    base.chmod(0o755)
    shop = Workshop(base)
    os.chown(shop.mirror, NOBODY, NOBODY)
    yield shop
    shutil.rmtree(base)
