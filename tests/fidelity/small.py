"""A rig with a small tree that every file system can hold in some way, and what its cycles are to tell."""

import os
import time
from pathlib import Path

from tests.faults.rig import Done, Rig

ODD_NS = 1_600_000_001_123_456_789
"""An odd second, and nanoseconds: no grain of a foreign clock keeps it."""

YOUNG_SECONDS = 2.1
"""What is younger is read again in the next cycle, whatever its times say."""


def rig_in(base: Path, *, aged: bool = False) -> Rig:
    """Give a rig; its source is old enough to be believed if it is `aged`."""
    rig = Rig(base, {"audit_interval": 0})
    folder = rig.source / "folder" / "deeper"
    folder.mkdir(parents=True, exist_ok=True)
    (rig.source / "plain").write_text("plain")
    (rig.source / "empty").touch()
    (rig.source / "private").write_text("private")
    (rig.source / "private").chmod(0o600)
    (rig.source / "of somebody").write_text("owned")
    os.chown(rig.source / "of somebody", 1234, 2345)
    (folder / "file").write_text("deeper")
    for each in rig.source.rglob("*"):
        os.utime(each, ns=(ODD_NS, ODD_NS))
    if aged:
        time.sleep(YOUNG_SECONDS)
    return rig


def nothing_done(done: Done, entries: int) -> None:
    assert done.counts == (0, 0, entries, 0), done.stdout
    assert done.code == 0
    assert not done.drift


def not_kept(done: Done) -> set[str]:
    """Give the kinds of metadata of which it is told that the mirror does not hold them."""
    return {line["what"] for line in done.of("metadata_not_kept")}
