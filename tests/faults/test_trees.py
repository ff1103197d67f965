"""Whole trees, hostile names included, against comparisons that are not ours."""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.faults.rig import Rig
from tests.faults.trees import HOSTILE_NAMES, entries_below, plant, rsync_differences, tree_of

GIT = "/usr/lib/git-core"
"""A tree in which many names are hard links and symlinks to few files."""


def test_a_tree_of_hostile_names_modes_links_and_times_is_mirrored_whole(rig: Rig) -> None:
    plant(rig.source)

    done = rig.once()

    assert done.code == 0
    assert rig.mirrored == rig.wanted
    assert set(HOSTILE_NAMES) <= rig.mirrored.keys()
    assert sum(done.counts) == entries_below(rig.source)
    assert not (rig.mirror / ".stfolder").exists()


@pytest.mark.needs_tool("rsync")
def test_rsync_finds_nothing_to_do_after_a_run(rig: Rig) -> None:
    plant(rig.source)

    rig.once()

    assert rsync_differences(rig.source, rig.mirror) == []


def test_a_user_without_privileges_gets_an_equal_tree_too(rig: Rig, unprivileged: tuple[str, ...]) -> None:
    plant(rig.source)

    first, second = rig.once(prefix=unprivileged), rig.once(prefix=unprivileged)

    assert (first.code, second.code) == (0, 0)
    assert rig.mirrored == rig.wanted
    assert second.counts == (0, 0, entries_below(rig.source), 0)


def test_one_event_is_one_line_whatever_the_names_are(rig: Rig) -> None:
    plant(rig.source)

    done = rig.once()

    assert all(line.isascii() and line.isprintable() for line in done.stdout.splitlines())
    assert len(done.of("file_copied")) == done.counts[0]
    assert rig.log.read_text() == done.stdout


def test_each_copied_file_is_told_with_checksum_and_permissions(rig: Rig) -> None:
    plant(rig.source)

    done = rig.once()

    told = {line["path"]: line for line in done.of("file_copied")}
    tree = tree_of(rig.source)
    for path in (b"old", b"script", b"large", b"read-only folder/read-only file"):
        assert told[path.decode()]["checksum"] == f"sha256:{tree[path].content}"
        assert told[path.decode()]["permissions"] == f"{tree[path].mode:o}"


def test_a_deep_chain_and_a_path_beyond_the_kernels_limit_are_copied_and_kept(rig: Rig) -> None:
    above, depth = os.open(rig.source, os.O_RDONLY), 300
    for _ in range(depth):
        os.mkdir(b"a folder of 20 bytes", dir_fd=above)
        below = os.open(b"a folder of 20 bytes", os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    with open(os.open(b"leaf", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=above), "w") as leaf:
        leaf.write("deep")
    os.close(above)

    first, second = rig.once(), rig.once()

    assert first.code == 0
    assert rig.mirrored == rig.wanted
    assert max(map(len, rig.mirrored)) > 4096
    assert second.counts == (0, 0, 1, 0)


@pytest.mark.one_process  # they are large enough to have workers anyway
@pytest.mark.needs_root  # to read everything in them
@pytest.mark.needs_tool("rsync")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "tree",
    [
        pytest.param(GIT, id="git", marks=pytest.mark.skipif(not Path(GIT).is_dir(), reason=f"{GIT} does not exist")),
        pytest.param(sysconfig.get_path("stdlib"), id="python", marks=pytest.mark.slow),
        pytest.param("/usr/share", id="share", marks=pytest.mark.slow),
    ],
)
def test_real_trees_of_this_machine_are_mirrored_and_then_left_alone(tmp_path: Path, tree: str) -> None:
    rig = Rig(tmp_path)
    rig.configure(source_dirs=[tree])

    first, second = rig.once(), rig.once()

    assert (first.code, second.code) == (0, 0)
    assert rsync_differences(Path(tree), rig.mirror) == []
    compared = subprocess.run(
        ["diff", "-r", "--no-dereference", "--exclude=.truecopy", tree, rig.mirror], capture_output=True, check=False
    )
    assert compared.stdout.replace(b"\n", b"") == b""
    assert sum(first.counts) == sum(second.counts) == entries_below(Path(tree))
    assert len(first.of("file_copied")) == first.counts[0]
    assert second.counts[0] == 0
