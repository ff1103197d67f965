"""The workshop of the test's own, and one with a huge folder in it."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.core import record
from job.core.outcome import Result
from job.engine import scan
from job.fs import large_dir, listing
from tests.engine.large_dirs import CHUNK, MANY, fill
from tests.engine.workshop import NOBODY, Workshop


@pytest.fixture
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Workshop:
    """A source and an empty mirror; a test that leaves a descriptor open fails."""
    request.getfixturevalue("no_leak")
    return Workshop(tmp_path)


@pytest.fixture
def open_shop() -> Iterator[Workshop]:
    """A workshop that an ordinary user may enter, with a mirror of theirs; pytest's own folders are root's alone."""
    base = Path(tempfile.mkdtemp(prefix="truecopy-test-"))
    base.chmod(0o755)
    shop = Workshop(base)
    os.chown(shop.mirror, NOBODY, NOBODY)
    yield shop
    shutil.rmtree(base)


@pytest.fixture
def huge_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make small what counts as huge, so that every way into and out of it is gone through quickly and exactly."""
    for module in (listing, large_dir, scan, large_dir):
        monkeypatch.setattr(module, "CHUNK", CHUNK)
    for module in (listing, large_dir):
        monkeypatch.setattr(module, "AT_ONCE", CHUNK // 4)
    monkeypatch.setattr(listing, "SHARE", 3 * CHUNK)
    # Workers go by the real clock, by which everything here is very young.
    monkeypatch.setattr(record, "CLOCK_GRAIN_NS", 0)
    assert threading.active_count() == 1, "workers that are no forks would not know of it"


@pytest.fixture(params=[1, 3], ids=["alone", "with workers"])
def huge_shop(shop: Workshop, request: pytest.FixtureRequest) -> Workshop:
    """A pair with one huge folder, and others beside, above and below it; nothing is mirrored yet."""
    request.getfixturevalue("huge_is_small")
    shop.options |= {"workers": request.param, "workers_from": 0, "audit_interval": "1h"}
    for name in ("beside", "crowd/below/a", "crowd/below/deep/b", "other/c"):
        shop.write(name)
    fill(shop, MANY)
    (shop.source / "crowd" / "link").symlink_to("f-1")
    os.mkfifo(shop.source / "crowd" / "pipe")
    (shop.source / "crowd").chmod(0o750)
    return shop


@pytest.fixture
def mirrored_huge(huge_shop: Workshop) -> Workshop:
    """The same, mirrored."""
    assert huge_shop.cycle().result is Result.SUCCESS
    return huge_shop
