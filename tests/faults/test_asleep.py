"""A mirror whose disk sleeps between cycles: only its root is touched until there is something to write."""

import re
import time

import pytest

from tests.faults.rig import Rig
from tests.faults.tampering import traced


def touched(rig: Rig) -> list[str]:
    """Run a cycle; give the calls that name or list anything in the mirror below its root."""
    log = rig.base / "strace.log"
    done = rig.once(prefix=traced("%file,getdents64", log=log))
    assert done.code == 0
    mirror = re.escape(str(rig.mirror))
    below = re.compile(rf'{mirror}/|{mirror}>, "(?!\.{{0,2}}")|getdents64\(\d+<{mirror}>')
    return [line for line in log.read_text(errors="replace").splitlines() if below.search(line)]


@pytest.mark.needs_tool("strace")
def test_nothing_but_the_root_is_touched_when_nothing_changed(rig: Rig) -> None:
    for name in ("sub/deeper", "other"):
        (rig.source / name).mkdir(parents=True)
        (rig.source / name / "file").write_text("content")
    rig.configure(mirror_check="asleep", state_dir=str(rig.base / "state"))
    time.sleep(2.1)  # younger files are read again
    rig.once()

    asleep = touched(rig)
    (rig.source / "other" / "file").chmod(0o600)

    assert asleep == []
    assert touched(rig)
