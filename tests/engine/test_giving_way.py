"""A file, link or special file that gives way to a folder: it is moved to the versions, and lost at no moment."""

import os
from pathlib import Path

import pytest

from job.core.entry import Kind
from job.core.outcome import Failure, Result
from job.events.pair import ReplacedByFolder
from tests.engine.interference import failing
from tests.engine.workshop import Workshop, assert_mirrored, with_sync


@pytest.fixture
def turned(shop: Workshop) -> Workshop:
    """A pair whose source has a folder where its mirror still has a file."""
    path = shop.write("name", "the old copy")
    shop.cycle()
    path.unlink()
    shop.write("name/below")
    return shop


def old_copies(shop: Workshop) -> list[Path]:
    """Find the old content under whatever name."""
    return [path for path in shop.mirror.rglob("*") if path.is_file() and path.read_bytes() == b"the old copy"]


def are_kept(found: list[Path]) -> bool:
    """Tell whether one was found, and it is a version."""
    return [path.parts[path.parts.index("mirror") + 1 :][:2] for path in found] == [(".truecopy", "versions")]


def test_the_old_copy_is_there_at_any_moment(turned: Workshop) -> None:
    seen: list[tuple[int, bool]] = []

    told = turned.cycle(with_sync(lambda: seen.append((len(old_copies(turned)), (turned.mirror / "name").is_dir()))))

    assert set(seen) == {(1, True)}
    assert are_kept(old_copies(turned))
    assert told.result is Result.SUCCESS
    assert_mirrored(turned)
    assert turned.temps == []


@pytest.mark.parametrize("content", ["full", "empty"])
def test_the_old_copy_is_kept_once_even_if_a_sync_failed(turned: Workshop, content: str) -> None:
    if content == "empty":
        (turned.source / "name/below").unlink()
    told = turned.cycle(with_sync(failing(1)))
    kept = old_copies(turned)

    again = turned.cycle()

    assert told.result is Result.PARTIAL
    assert told.tally.failed_by == {Failure.SYNC: 1}
    assert are_kept(kept)
    assert again.result is Result.SUCCESS
    assert old_copies(turned) == kept
    assert_mirrored(turned)


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.SYMLINK, Kind.SPECIAL])
def test_what_gave_way_is_told_once_and_counted_never(shop: Workshop, kind: Kind) -> None:
    shop.write("name/below")
    name = shop.mirror / "name"
    match kind:
        case Kind.SYMLINK:
            name.symlink_to("below")
        case Kind.SPECIAL:
            os.mkfifo(name)
        case _:
            name.write_text("the old copy")

    told = shop.cycle()

    assert [(event.path, event.kind) for event in told.of(ReplacedByFolder)] == [(b"name", kind)]
    assert (told.tally.entries, told.tally.copied, told.tally.folders) == (1, 1, 2)
    assert told.committed == told.tally
    assert told.drift == {}
    assert shop.cycle().of(ReplacedByFolder) == []


@pytest.mark.parametrize("inside", ["nothing", "a file", "another name of a linked file"])
def test_a_folder_that_waits_for_hard_links_makes_room_for_folders_all_the_same(shop: Workshop, inside: str) -> None:
    shop.write("beside/linked")
    shop.write("beside/name", "the old copy")
    shop.cycle()
    (shop.source / "beside/name").unlink()
    (shop.source / "beside/name").mkdir()
    os.link(shop.source / "beside/linked", shop.source / "another name")
    if inside == "a file":
        shop.write("beside/name/below")
    elif inside != "nothing":
        os.link(shop.source / "beside/linked", shop.source / "beside/name/below")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert [event.path for event in told.of(ReplacedByFolder)] == [b"beside/name"]
    assert told.committed == told.tally
    assert_mirrored(shop)
    names = ["beside/linked", "another name", *(["beside/name/below"] if inside[:2] == "an" else [])]
    assert len({(shop.mirror / name).stat().st_ino for name in names}) == 1
    assert are_kept(old_copies(shop))


@pytest.mark.parametrize("others", ["copied with it", "none"])
def test_where_it_waits_the_old_copy_outlives_a_failed_sync_too(shop: Workshop, others: str) -> None:
    shop.write("beside/linked")
    shop.write("beside/name", "the old copy")
    shop.cycle()
    (shop.source / "beside/name").unlink()
    (shop.source / "beside/name").mkdir()
    os.link(shop.source / "beside/linked", shop.source / "another name")
    if others != "none":
        shop.write("elsewhere/new")

    told = shop.cycle(with_sync(failing(1)))
    kept = old_copies(shop)
    again = shop.cycle()

    assert told.result is Result.PARTIAL
    assert are_kept(kept)
    assert again.result is Result.SUCCESS
    assert old_copies(shop) == kept
    assert_mirrored(shop)
