"""Paths longer and trees deeper than the kernel takes in one go, and a million files in one folder."""

import os
import resource
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.faults.rig import Done, Rig
from tests.faults.tampering import mounted
from tests.faults.test_memory import peaks

FEW_DESCRIPTORS = 64
MOST_BYTES = 200 << 20
MILLION = 1_000_000


class Shaft:
    """Folders one in another; it is gone in the end, however deep it is."""

    def __init__(self, rig: Rig, names: list[bytes]) -> None:
        self.rig = rig
        self.names = names
        folder = os.open(rig.source, os.O_RDONLY)
        for name in names:
            os.mkdir(name, dir_fd=folder)
            folder = self._below(name, folder)
        os.close(folder)

    @staticmethod
    def _below(name: bytes, folder: int) -> int:
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        return below

    def bottom(self, root: Path) -> int:
        """Open the deepest folder."""
        folder = os.open(root, os.O_RDONLY)
        for name in self.names:
            folder = self._below(name, folder)
        return folder

    def write(self, text: str) -> None:
        """Put a text at the bottom of the source."""
        bottom = self.bottom(self.rig.source)
        with open(os.open("leaf", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640, dir_fd=bottom), "w") as leaf:
            leaf.write(text)
        os.close(bottom)

    def mirrored(self) -> tuple[str, int, int]:
        """Give what the bottom of the mirror holds, its mode, and how far its time is from the source's."""
        ours, theirs = self.bottom(self.rig.source), self.bottom(self.rig.mirror)
        with open(os.open("leaf", os.O_RDONLY, dir_fd=theirs)) as leaf:
            text = leaf.read()
        seen = [os.stat("leaf", dir_fd=folder) for folder in (ours, theirs)]
        apart = abs(seen[0].st_mtime_ns - seen[1].st_mtime_ns) + abs(
            os.fstat(ours).st_mtime_ns - os.fstat(theirs).st_mtime_ns
        )
        for folder in (ours, theirs):
            os.close(folder)
        return text, seen[1].st_mode & 0o777, apart

    def run(self, *command: str) -> Done:
        """Run something with few descriptors."""
        limit = FEW_DESCRIPTORS, FEW_DESCRIPTORS
        return self.rig.run(*command, limit=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit))

    def clear(self, root: Path) -> None:
        """Remove it from below; what removes trees does that by calling itself, or by going down again and again."""
        folder = self.bottom(root)
        os.unlink("leaf", dir_fd=folder)
        for name in reversed(self.names):
            folder = self._below(b"..", folder)
            os.rmdir(name, dir_fd=folder)
        os.close(folder)


@pytest.fixture
def shaft(rig: Rig, names: list[bytes]) -> Iterator[Shaft]:
    shaft = Shaft(rig, names)
    shaft.write("first")
    yield shaft
    for root in (rig.source, rig.mirror, *(rig.state / "versions").iterdir()):
        shaft.clear(root)


@pytest.mark.one_process
@pytest.mark.parametrize(
    "names",
    [
        pytest.param([b"%03d" % number + b"n" * 197 for number in range(30)], id="6,000 bytes"),
        pytest.param([b"d"] * 1_000, id="1,000 folders"),
        pytest.param([b"d"] * 10_000, id="10,000 folders", marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
    ],
)
def test_a_path_of_any_length_is_planned_copied_updated_audited_and_compared(shaft: Shaft, names: list[bytes]) -> None:
    shaft.rig.configure(audit_interval=0)

    planned, first = shaft.run("plan"), shaft.run("run", "--once")
    shaft.write("second!")
    second, third, compared = shaft.run("run", "--once"), shaft.run("run", "--once"), shaft.run("compare")

    assert [each.code for each in (planned, first, second, third, compared)] == [0] * 5
    assert "1 entries need work" in planned.stdout.replace(str(len(names) + 1), "1")
    assert (first.counts, second.counts, third.counts) == ((1, 0, 0, 0), (1, 0, 0, 0), (0, 0, 1, 0))
    assert shaft.mirrored() == ("second!", 0o640, 0)
    path = b"/".join([*names, b"leaf"])
    (told,) = {line["path"] for line in second.of("file_copied")}
    assert f"...[{len(path)} bytes, sha256 {sha256(path).hexdigest()[:16]}]..." in told
    assert told.endswith("/leaf")


@pytest.mark.slow
@pytest.mark.one_process
@pytest.mark.needs_root
@pytest.mark.timeout(3600)
def test_a_million_files_in_one_folder_take_little_memory(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path / "memory", "-t", "tmpfs", "-o", "size=12g,nr_inodes=0") as place:
        found = peaks(Rig(place, {"workers": 2}), MILLION)

    assert max(found.values()) < MOST_BYTES, found
