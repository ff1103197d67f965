"""Sparse files stay sparse in the mirror, and every byte of them is hashed all the same."""

import hashlib
import os
from pathlib import Path

import pytest

from job.core.events import FileCopied
from tests.tasks.workshop import Workshop, assert_mirrored

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
