"""An open folder, and an eye on descriptors that are left open."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """The open temp folder of the test."""
    descriptor = os.open(tmp_path, FOLDER)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def no_leak() -> Iterator[None]:
    """Fail a test that leaves a descriptor open. Ask for it before anything that opens one."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    after = {number for number in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{number}")}
    left = after - before
    assert not left, [os.readlink(f"/proc/self/fd/{number}") for number in left]
