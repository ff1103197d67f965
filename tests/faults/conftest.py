"""What the tests of faults share: a rig of their own, cleaned up whatever modes are left in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.faults.trees import unlock


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    yield Rig(tmp_path)
    unlock(tmp_path)
