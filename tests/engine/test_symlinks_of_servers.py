"""Mirrors on servers that set a symlink's owner and times on what it points to: found out, and never done there."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from job.core.outcome import Result
from job.events.pair import MetadataNotKept
from job.fs.probe import probe
from job.store.codec import decode_unsupported
from job.store.index import Index
from tests.engine.workshop import Workshop
from tests.memory_disks import memory_disk, variant

pytestmark = pytest.mark.needs_root

OLD, OLDER = 1_500_000_000, 1_400_000_000
_FOLLOWS_QUIETLY = """
def answer(files, op, n, data):
    if op == 4 and stat.S_ISLNK(n.mode):
        v = struct.unpack_from('<IIQQQQQQIIIIIIII', data)
        valid, mtime, uid = v[0], v[6] * 10 ** 9, v[13]
        there = [each.kids[n.body[0]] for each in files.nodes.values() if each.kids and n.body[0] in each.kids]
        for each in there or [n]:
            if valid & 2: each.uid = uid
            if valid & 32: each.mtime = mtime
        return files.answer(n)
"""
"""Relative targets only, and without an error where there is none."""


@pytest.fixture
def server(shop: Workshop) -> Iterator[Workshop]:
    with memory_disk(shop.mirror, "follow"):
        yield shop


def linked(shop: Workshop, target: str) -> Path:
    link = shop.source / "link"
    link.symlink_to(target)
    os.chown(link, 1001, 1001, follow_symlinks=False)
    os.utime(link, (OLDER, OLDER), follow_symlinks=False)
    return link


@pytest.mark.parametrize("target", ["outside", "file", "nowhere", "/nowhere"])
def test_nothing_that_a_symlink_points_to_is_changed(server: Workshop, target: str) -> None:
    outside = server.base / "outside"
    for path in (outside, server.write("file")):
        path.write_text("secret")
        os.utime(path, (OLD, OLD))
    link = linked(server, str(outside) if target == "outside" else target)

    first, second = server.cycle(), server.cycle()

    seen = outside.stat()
    assert (seen.st_uid, seen.st_gid, seen.st_mtime) == (0, 0, OLD)
    assert (server.mirror / "file").stat().st_mtime == OLD
    assert os.readlink(server.mirror / "link") == os.readlink(link)
    assert first.result is second.result is Result.SUCCESS
    assert second.tally.copied == second.tally.updated == 0
    assert second.drift == {}


def test_what_symlinks_do_not_keep_is_told_once_and_in_the_index(server: Workshop) -> None:
    linked(server, "nowhere")
    (server.source / "another").symlink_to("nowhere")

    told = server.cycle()

    assert [event.what for event in told.of(MetadataNotKept)] == ["symlink_metadata"]
    index = Index.open_read_only(str(server.state))
    assert index is not None
    noted = decode_unsupported(index.unsupported(b""))
    index.close()
    assert (noted[b"link"].uid, noted[b"link"].gid, noted[b"link"].mtime_ns) == (1001, 1001, OLDER * 10**9)
    assert noted[b"link"].target == b"nowhere"
    assert stat.S_ISLNK(noted[b"another"].mode)


def probed(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return probe(descriptor).symlink_metadata
    finally:
        os.close(descriptor)
        assert os.listdir(folder) == []


def test_a_server_that_follows_relative_targets_without_a_word_is_found_out_too(tmp_path: Path) -> None:
    quiet = variant(tmp_path / "quiet.py", _FOLLOWS_QUIETLY)

    with memory_disk(tmp_path / "quiet", server=quiet) as at:
        assert not probed(at)


def test_a_server_and_a_disk_that_know_symlinks_of_their_own_are_believed(tmp_path: Path) -> None:
    (tmp_path / "ordinary").mkdir()

    with memory_disk(tmp_path / "server") as at:
        assert probed(at)
        assert probed(tmp_path / "ordinary")
