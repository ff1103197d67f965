"""Things that move while a tool runs: the file it reads, links in its source, another instance, the clock."""

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.matrix.finding import Finding, Outcome
from tests.faults.matrix.row import Row, row
from tests.faults.matrix.scene import Scene, back_dated, content, either
from tests.faults.matrix.writer import CHUNK, CHUNKS, chunk, place_of

_BOX = 3.0
"""Seconds for which somebody swaps links in a source that is copied again and again."""
_NOBODY = 65534
_TEN_YEARS = 3650 * 86_400


@contextmanager
def _beside(script: str, *arguments: str) -> Iterator[None]:
    """Have a program work beside the tool; it says when it has begun."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n", command
            yield
            assert process.poll() is None, command
        finally:
            process.kill()


def mixed(copy: bytes) -> bool:
    """Tell whether a copy never was what the file held at any moment.

    What it held at a moment is the last so many numbers, each in its place; one chunk may be half written.
    """
    if len(copy) != CHUNK * CHUNKS:
        return True
    parts = [copy[place : place + CHUNK] for place in range(0, len(copy), CHUNK)]
    numbers = [struct.unpack_from("<Q", part)[0] for part in parts]
    last = max(numbers)
    torn = {place for place, part in enumerate(parts) if part != chunk(numbers[place])}
    return numbers != sorted(range(last - CHUNKS + 1, last + 1), key=place_of) or not torn <= {place_of(last)}


@row("20", "a file is overwritten while it is copied (80 MB)")
def overwritten(scene: Scene) -> Finding:
    file = scene.source / "moving"
    old = b"".join(chunk(number) for number in sorted(range(CHUNKS), key=place_of))
    file.write_bytes(old)
    back_dated(file, hours=1)
    scene.fill_old()
    scene.first_run()
    scene.fill("new")
    with _beside("writer.py", str(file)):
        outcome = scene.run()
    copy = content(scene.mirror / "moving") or b""
    wrong = ("the copy is mixed",) if copy and mixed(copy) else () if copy else ("the old copy is gone",)
    absent = ("the update",) if copy == old else ()
    return outcome.finding("moving", wrong=wrong, absent=absent, left=scene.left)


@row(
    "24",
    "another user swaps links in the source",
    note=f"As often as it goes in {_BOX:.0f} seconds: that nothing leaked in them is no proof. "
    "`tests/faults` has the sweeps.",
)
def swapping(scene: Scene) -> Finding:
    (scene.outside / "secret").write_text("from outside")
    stash = scene.base / "stash"
    stash.mkdir()
    for number in range(30):
        (scene.source / f"folder-{number}").mkdir()
        (scene.source / f"folder-{number}" / "secret").write_text("harmless")
        (scene.source / f"file-{number}").write_text("harmless")
        (stash / f"folder-{number}").symlink_to(scene.outside)
        (stash / f"file-{number}").symlink_to(scene.outside / "secret")
    for folder in (stash, scene.source, *scene.source.iterdir()):
        os.chown(folder, _NOBODY, _NOBODY)
    leaks = copied = runs = 0
    outcome = Outcome(None)
    end = time.monotonic() + _BOX
    with _beside("flipper.py", str(scene.source), str(stash)):
        while runs < 3 or time.monotonic() < end:
            scene.emptied_mirror()
            outcome = scene.run()
            found = list(scene.held(scene.mirror).values())
            leaks, copied, runs = leaks + found.count(b"from outside"), copied + found.count(b"harmless"), runs + 1
    wrong = (f"{leaks} leaks in {runs} runs",) if leaks else ()
    return outcome.finding(wrong=wrong if copied else (*wrong, "nothing was copied"))


@row("25", "two instances at once")
def two_instances(scene: Scene) -> Finding:
    scene.fill("content")
    (scene.source / "large").write_bytes(os.urandom(scene.large))
    with scene.met(scene.emptied_mirror) as first:
        first.send(signal.SIGSTOP)
        second = scene.run()
        first.send(signal.SIGCONT)
        outcome = first.outcome()
    wrong = either(scene.mirror / "large", b"\0", content(scene.source / "large") or b"")
    wrong += (f"{scene.left} healthy files are left",) if scene.left else ()
    wrong += () if outcome.code == 0 else ("the first one fails",)
    return second.finding(wrong=wrong, lesser=("both wrote to one mirror",))


@row(
    "28",
    "the clock is set back ten years",
    "faketime",
    note="By libfaketime, which rclone does not notice: it asks the kernel itself. Its edits are ten years old all the "
    "same.",
)
def clock_back(scene: Scene) -> Finding:
    file = scene.source / "edited"
    file.write_text("one")
    scene.fill("content")
    scene.first_run()
    then = time.time() - _TEN_YEARS
    file.write_text("two")
    os.utime(file, (then, then))
    outcome = scene.run(prefix=("env", "NO_FAKE_STAT=1", "faketime", "-f", "-3650d"))
    absent: tuple[str, ...] = () if content(scene.mirror / "edited") == b"two" else ("the edit of then",)
    file.write_text("three")
    again = scene.run()
    absent += () if content(scene.mirror / "edited") == b"three" and again.code == 0 else ("the edit of now",)
    left = scene.left
    return outcome.finding("edited", wrong=(f"{left} healthy files are left",) if left else (), absent=absent)


ROWS: tuple[Row, ...] = (overwritten, swapping, two_instances, clock_back)
