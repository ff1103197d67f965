"""Sparse files stay sparse in the mirror, whatever their size, and cost what they take on the disk."""

import hashlib
import os
from pathlib import Path

import pytest

from job.core.entry import Entry
from job.core.outcome import Drift, Result, Skip
from job.core.record import Copied
from job.engine.context import PairContext
from job.engine.volumes import Tools
from job.events.pair import FileCopied
from job.fs.copier import Copier
from tests.engine.test_tree_compare import told
from tests.engine.workshop import Workshop, assert_mirrored, changed, with_tools
from tests.faults.tampering import mounted

MIB = 1 << 20


def sparse(path: Path, size: int, *data: int) -> None:
    """Make a file of holes, with a little text at each of the given places."""
    with path.open("wb") as file:
        for place in data:
            file.seek(place)
            file.write(b"here")
        file.truncate(size)


SHAPES = {
    "nothing but a hole": (50 * MIB, ()),
    "hole at the end": (50 * MIB, (0,)),
    "hole at the beginning": (50 * MIB, (50 * MIB - 4,)),
    "holes between": (50 * MIB, (3 * MIB, 20 * MIB + 17, 49 * MIB)),
    "small": (200_000, (100_000,)),
    "not a whole block": (5000, ()),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_sparse_file_takes_no_more_room_in_the_mirror(shop: Workshop, shape: str) -> None:
    size, data = SHAPES[shape]
    sparse(shop.source / "disk.img", size, *data)

    told = shop.cycle()

    ours, theirs = (shop.source / "disk.img").stat(), (shop.mirror / "disk.img").stat()
    assert theirs.st_blocks <= ours.st_blocks
    [copied] = told.of(FileCopied)
    assert copied.checksum == "sha256:" + hashlib.sha256((shop.source / "disk.img").read_bytes()).hexdigest()
    assert_mirrored(shop)


def test_a_file_of_zeros_that_has_its_room_keeps_it(shop: Workshop) -> None:
    path = shop.source / "reserved"
    path.write_bytes(bytes(MIB))
    os.sync()

    shop.cycle()

    assert (shop.mirror / "reserved").stat().st_blocks * 512 >= MIB


def test_data_where_a_hole_was_is_copied_though_size_and_place_of_holes_say_nothing(shop: Workshop) -> None:
    path = shop.source / "disk.img"
    sparse(path, 10 * MIB)
    shop.cycle()
    with path.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"data")

    shop.cycle()

    assert (shop.mirror / "disk.img").read_bytes() == path.read_bytes()
    assert_mirrored(shop)


TIB = 1 << 40


def test_a_file_of_tebibytes_keeps_nobody_from_being_copied(shop: Workshop) -> None:
    sparse(shop.source / "a-bomb", 15 * TIB, 5 * TIB)
    shop.write("dear")

    first, second = shop.cycle(), shop.cycle()

    assert first.result is second.result is Result.SUCCESS
    assert set(first.copied) == {b"a-bomb", b"dear"}
    [bomb] = [event for event in first.of(FileCopied) if event.path == b"a-bomb"]
    assert bomb.bytes == 15 * TIB
    assert bomb.checksum.startswith("sparse-sha256:")
    assert first.tally.bytes_copied == 4096 + len("content")
    assert second.tally.skipped_by == {Skip.UNCHANGED: 2}
    assert told(shop) == {}


def test_it_is_read_back_from_the_disk(shop: Workshop) -> None:
    shop.options["verify_copies"] = "readback"
    sparse(shop.source / "bomb", 15 * TIB, 5 * TIB)

    assert shop.cycle().result is Result.SUCCESS


def test_it_is_compared_without_an_index_and_with_contents_always_compared(shop: Workshop) -> None:
    sparse(shop.source / "bomb", 15 * TIB, 5 * TIB)
    shop.cycle()
    (shop.state / "index.sqlite3").unlink()

    anew = shop.cycle()
    shop.options["compare"] = "checksum"
    always = shop.cycle()

    assert (anew.copied, always.copied) == ({}, {})
    assert (anew.drift, always.drift) == ({}, {})


def test_one_byte_in_its_holes_is_noticed_on_either_side(shop: Workshop) -> None:
    path = shop.source / "bomb"
    sparse(path, 15 * TIB)
    shop.cycle()
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(7 * TIB + 7)
        file.write(b"X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    found = shop.cycle()

    assert found.copied == {b"bomb": "content changed: ctime moved though size and mtime did not"}
    with (shop.mirror / "bomb").open("r+b") as file:
        file.seek(9 * TIB)
        file.write(b"Y")
    healed = shop.cycle()
    assert healed.drift == {Drift.CONTENT: 1}
    with (shop.mirror / "bomb").open("rb") as file:
        file.seek(7 * TIB + 7)
        assert file.read(1) == b"X"
        file.seek(9 * TIB)
        assert file.read(1) == b"\0"


def test_another_mode_copies_nothing(shop: Workshop) -> None:
    sparse(shop.source / "bomb", 15 * TIB, 5 * TIB)
    shop.cycle()
    (shop.source / "bomb").chmod(0o600)

    found = shop.cycle()

    assert (found.tally.copied, found.tally.updated) == (0, 1)


@pytest.mark.needs_root
def test_files_with_more_bytes_together_than_a_number_can_have_are_copied(shop: Workshop) -> None:
    at = shop.base / "at"
    with mounted("tmpfs", at, "-t", "tmpfs"):
        shop.options |= {"workers": 2, "workers_from": 0}
        for folder in ("source", "mirror"):
            (shop.base / folder).rmdir()
            (at / folder).mkdir()
            (shop.base / folder).symlink_to(at / folder)
        for name in ("one", "two", "three"):
            sparse(shop.source / name, 7 << 60)

        first, second = shop.cycle(), shop.cycle()

        assert first.result is second.result is Result.SUCCESS
        assert first.tally.copied == 3
        assert second.tally.skipped_by == {Skip.UNCHANGED: 3}


def at_once(_: int) -> None:
    """Keep no pace."""


def test_what_is_staged_does_not_wait_for_a_file_that_takes_long(shop: Workshop) -> None:
    shop.write("a")
    sparse(shop.source / "b", 15 * TIB)
    seen: list[set[str]] = []

    def watched(context: PairContext) -> PairContext:
        class Watched(Copier):
            def copy(self, listed: Entry, source: int, mirror: int, temp: bytes) -> Copied:
                seen.append({each.name for each in shop.mirror.iterdir()} & {"a", "b"})
                return super().copy(listed, source, mirror, temp)

        def exchange(tools: Tools) -> Tools:
            return tools._replace(copier=Watched("sha256", tools.metadata_writer, at_once, sync_each=False))

        return with_tools(context, exchange)

    shop.cycle(changed(watched))

    assert seen == [{"a"}]
