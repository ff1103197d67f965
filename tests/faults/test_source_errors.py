"""Sources that cannot be read, or not whole: what is unknown stays as it was, is named, and never counts as gone."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import troubled
from tests.faults.images import NO_SUCH_DISK
from tests.faults.rig import Rig
from tests.faults.tampering import injected, mounted, run
from tests.faults.troubled import Server

needs_strace = pytest.mark.needs_tool("strace")
MARK = b"content whose place in the image is looked for"


@pytest.fixture
def served(rig: Rig) -> Iterator[Server]:
    """A source on a server that can fail, with two folders of files that are copied already."""
    with troubled.troubled(rig.source) as server:
        for folder in ("good", "bad"):
            (rig.source / folder / "below").mkdir(parents=True)
            for name in ("file", "below/deep"):
                (rig.source / folder / name).write_text("old")
        assert rig.once().code == 0
        yield server


def edit(rig: Rig, *names: str, content: str = "newer!") -> None:
    for name in names:
        (rig.source / name).write_text(content)


def texts(root: Path) -> dict[str, str]:
    """Give what is in the files of a tree, but for our own."""
    files = [path for path in root.glob("[!.]*/**/*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_text() for path in files}


def mirrored(rig: Rig) -> dict[str, str]:
    return texts(rig.mirror)


def heals(rig: Rig, server: Server) -> None:
    server.tell()
    assert rig.once().code == 0
    assert mirrored(rig) == texts(rig.source)
    assert not rig.temps


@pytest.mark.parametrize("call", ["read", "open"])
@pytest.mark.parametrize("error", ["EIO", pytest.param("ESTALE", marks=pytest.mark.slow)])
@pytest.mark.needs_root
@pytest.mark.needs_tool("fusermount3")
def test_a_file_that_cannot_be_read_is_named_and_its_old_copy_stays(
    rig: Rig, served: Server, call: str, error: str
) -> None:
    edit(rig, "bad/file", "good/file")
    served.tell(fail={call: {"bad/file": error}})

    done = rig.once()

    rig.names(done, "bad/file", "io_error")
    assert done.copied == {"good/file"}
    assert mirrored(rig)["bad/file"] == "old"
    heals(rig, served)


@pytest.mark.needs_root
@pytest.mark.needs_tool("fusermount3")
@pytest.mark.parametrize("call", ["readdir", "getattr"])
def test_below_a_folder_that_cannot_be_looked_at_nothing_is_gone_and_the_rest_is_done(
    rig: Rig, served: Server, call: str
) -> None:
    edit(rig, "bad/file", "bad/below/deep", "good/file")
    served.tell(fail={call: {"/bad": "EIO"}})

    done = rig.once()
    again = rig.once()

    assert (done.code, again.code) == (3, 3)
    assert done.copied == {"good/file"}
    assert {path.partition("/")[0] for path in done.failed} == {"bad"}
    assert set(done.failed.values()) == {"io_error"}
    assert not done.of("folder_retired")
    assert {name: text for name, text in mirrored(rig).items() if name.startswith("bad")} == {
        "bad/file": "old",
        "bad/below/deep": "old",
    }
    heals(rig, served)


@needs_strace
@pytest.mark.parametrize(
    "error", ["EIO", *(pytest.param(error, marks=pytest.mark.slow) for error in ("ESTALE", "ENOMEM"))]
)
def test_a_folder_that_fails_in_the_middle_of_its_listing_is_unknown_and_nothing_in_it_counts_as_gone(
    rig: Rig, error: str
) -> None:
    crowd = rig.source / "crowd"
    crowd.mkdir()
    for number in range(1500):  # more than one call gives
        (crowd / f"a long name, so that few of them fit in one call {number:04}").touch()
    (rig.source / "beside").write_text("old")
    assert rig.once().code == 0
    edit(rig, "beside", "crowd/new")
    fault = injected("getdents64", f"error={error}:when=2+", log=rig.base / "strace.log", paths=(crowd,))

    done = rig.once(prefix=fault)

    assert done.failed.keys() == {"crowd"}
    assert done.code == 3
    assert done.copied == {"beside"}
    assert len(os.listdir(rig.mirror / "crowd")) == 1500
    healed = rig.once()
    assert (healed.code, healed.copied) == (0, {"crowd/new"})
    assert rig.mirrored == rig.wanted


@pytest.mark.needs_root
@pytest.mark.needs_tool("fusermount3")
@pytest.mark.parametrize(
    "size", [1000, pytest.param(300_000, marks=pytest.mark.slow), pytest.param(5_000_000, marks=pytest.mark.slow)]
)
def test_reads_that_give_a_little_at_a_time_give_the_whole_file(rig: Rig, served: Server, size: int) -> None:
    (rig.source / "good" / "file").write_bytes(os.urandom(size))
    served.tell(most=max(7, size // 50))

    done = rig.once()

    assert done.code == 0
    assert (rig.mirror / "good/file").read_bytes() == bytes_of(rig, served, "good/file")


def bytes_of(rig: Rig, server: Server, name: str) -> bytes:
    server.tell()
    return (rig.source / name).read_bytes()


@pytest.mark.needs_root
@pytest.mark.needs_tool("fusermount3")
@pytest.mark.parametrize("surplus", [-3, 4])
@pytest.mark.parametrize("size", [6, pytest.param(5_000_000, marks=pytest.mark.slow)])
def test_a_file_of_which_more_or_less_can_be_read_than_it_has_is_named(
    rig: Rig, served: Server, surplus: int, size: int
) -> None:
    edit(rig, "bad/file", content="!" * size)
    served.tell(surplus={"file": surplus})

    done = rig.once()

    assert done.failed["bad/file"] == "changed_during_copy"
    assert mirrored(rig)["bad/file"] == "old"
    heals(rig, served)


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.btrfs")
def test_rot_that_the_sources_own_file_system_finds_is_named_and_the_good_copy_stays(rig: Rig) -> None:
    image = rig.base / "disk.img"
    with image.open("wb") as file:
        file.truncate(128 << 20)
    run("mkfs.btrfs", "-q", "-d", "single", "-m", "single", str(image), passing=NO_SUCH_DISK)
    with mounted(str(image), rig.source, "-o", "loop"):
        for name in ("rotten", "sound"):
            (rig.source / name).write_bytes(name.encode() + MARK * 2000)
        assert rig.once().code == 0
        good = (rig.mirror / "rotten").read_bytes()
    flip(image, b"rotten" + MARK)
    rig.configure(compare="checksum")
    with mounted(str(image), rig.source, "-o", "loop"):
        (rig.source / "sound").write_text("newer")

        done = rig.once()

        rig.names(done, "rotten", "io_error")
        assert done.copied == {"sound"}
        assert (rig.mirror / "rotten").read_bytes() == good


def flip(image: Path, text: bytes) -> None:
    """Flip a bit behind a text, wherever it is."""
    with image.open("r+b") as file:
        place = file.read().index(text) + len(text) + 100
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


@pytest.mark.needs_root
@pytest.mark.needs_tool("fusermount3")
def test_a_source_whose_server_died_is_refused_and_nothing_counts_as_gone(rig: Rig, served: Server) -> None:
    before = mirrored(rig)
    served.kill()

    done = rig.once()

    assert done.code == 4
    assert done.the("pair_refused")["reason"] == "source_unreadable"
    assert mirrored(rig) == before
