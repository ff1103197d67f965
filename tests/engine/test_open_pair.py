"""Opening a pair: it is refused before anything is written."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from job.core.file_systems import FileSystemId
from job.core.mirror_identity import MirrorPlace
from job.core.outcome import Refusal, Result
from job.engine.preflight.open_pair import open_pair
from job.errors import Refused
from job.events.pair import PairBusy, PairRefused
from job.store.memory import MirrorMemory
from job.store.pair_records import ResolvedPath
from tests.engine.workshop import Workshop

pytestmark = pytest.mark.one_process  # what is refused before anybody works

Spoil = Callable[[Workshop], object]


def a_link_to_the_source(shop: Workshop) -> None:
    shop.mirror.rmdir()
    shop.mirror.symlink_to(shop.source)


def a_mirror_in_the_source(shop: Workshop) -> None:
    (shop.source / "inner").mkdir()
    a_link(shop.mirror, shop.source / "inner")


def a_source_in_the_mirror(shop: Workshop) -> None:
    (shop.mirror / "inner/deeper").mkdir(parents=True)
    a_link(shop.source, shop.mirror / "inner/deeper")


def a_link(path: Path, target: Path) -> None:
    path.rmdir()
    path.symlink_to(target)


def a_file(path: Path) -> None:
    path.rmdir()
    path.touch()


def a_known_mirror_gone(shop: Workshop) -> None:
    remember(shop)
    shop.mirror.rmdir()


def a_known_mirror_empty(shop: Workshop) -> None:
    remember(shop)


def remember(shop: Workshop) -> None:
    """Remember another mirror at the path of the one that is there."""
    place = MirrorPlace(FileSystemId("", ""), 1, 1, "", "")
    mirror = MirrorMemory("0" * 32, ResolvedPath.of(str(shop.source)), "2026", "/", place)
    shop.memory.remember(shop.pair, mirror)


SPOILED: list[tuple[str, Spoil, Refusal]] = [
    ("source gone", lambda shop: shop.source.rmdir(), Refusal.SOURCE_MISSING),
    ("mirror gone", a_known_mirror_gone, Refusal.MIRROR_MISSING),
    ("mirror empty", a_known_mirror_empty, Refusal.MIRROR_MISSING),
    ("source a file", lambda shop: a_file(shop.source), Refusal.SOURCE_NOT_A_FOLDER),
    ("mirror a file", lambda shop: a_file(shop.mirror), Refusal.MIRROR_NOT_A_FOLDER),
    ("one folder", a_link_to_the_source, Refusal.OVERLAP),
    ("mirror inside", a_mirror_in_the_source, Refusal.OVERLAP),
    ("source inside", a_source_in_the_mirror, Refusal.OVERLAP),
    ("state a file", lambda shop: (shop.mirror / ".truecopy").touch(), Refusal.STATE_UNUSABLE),
    ("state a link", lambda shop: (shop.mirror / ".truecopy").symlink_to(shop.source), Refusal.STATE_UNUSABLE),
]


@pytest.mark.parametrize(("spoil", "refusal"), [case[1:] for case in SPOILED], ids=[case[0] for case in SPOILED])
def test_a_pair_in_doubt_is_refused_and_nothing_is_written(shop: Workshop, spoil: Spoil, refusal: Refusal) -> None:
    spoil(shop)
    before = sorted(shop.base.rglob("*"))

    told = shop.cycle()

    [refused] = told.of(PairRefused)
    assert (told.result, refused.reason) == (Result.REFUSED, refusal)
    assert refused.hint
    assert sorted(shop.base.rglob("*")) == before


def test_an_empty_source_of_which_files_are_known_is_refused(shop: Workshop) -> None:
    path = shop.write("file")
    shop.cycle()
    path.unlink()

    told = shop.cycle()

    [refused] = told.of(PairRefused)
    assert refused.reason is Refusal.SOURCE_EMPTY
    assert "1 file of it is" in refused.error
    assert (shop.mirror / "file").exists()


def test_a_source_with_nothing_in_scope_counts_as_empty(shop: Workshop) -> None:
    path = shop.write("file")
    (shop.source / ".stfolder").mkdir()
    shop.cycle()
    path.unlink()

    assert shop.cycle().of(PairRefused)[0].reason is Refusal.SOURCE_EMPTY


def test_a_mirror_that_somebody_works_on_is_busy(shop: Workshop) -> None:
    shop.write("file")
    with open_pair(shop.pair, None, 1.0):
        told = shop.cycle()

    [busy] = told.of(PairBusy)
    assert told.result is Result.BUSY
    assert busy.hint
    assert shop.names() == set()
    assert shop.cycle().result is Result.SUCCESS


def test_the_state_is_private_and_explains_itself(shop: Workshop) -> None:
    shop.cycle()

    assert stat.S_IMODE(shop.state.stat().st_mode) == 0o700
    text = (shop.state / "README.txt").read_text()
    assert str(shop.source) in text
    assert "cp -a" in text


def test_the_explanation_is_written_once(shop: Workshop) -> None:
    shop.cycle()
    before = (shop.state / "README.txt").stat()

    shop.cycle()

    assert (shop.state / "README.txt").stat().st_ctime_ns == before.st_ctime_ns


def test_the_state_may_lie_elsewhere(shop: Workshop) -> None:
    shop.write("file")
    shop.options["state_dir"] = str(shop.base / "deep/state")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert (shop.base / "deep/state/music/index.sqlite3").exists()
    assert {path.name for path in shop.mirror.iterdir()} == {".truecopy", "file"}
    assert {path.name for path in shop.state.iterdir()} == {"identity.json", "lock"}


def test_strange_bytes_in_paths_do_not_keep_the_note_from_being_written(shop: Workshop) -> None:
    strange = shop.base / os.fsdecode(b"source \xff {mirror} \n")
    shop.source.rename(strange)
    pair = shop.pair._replace(source=str(strange))

    with open_pair(pair, None, 1.0):
        pass

    assert b"\xff {mirror}" in (shop.state / "README.txt").read_bytes()


@pytest.mark.needs_root
def test_a_state_of_somebody_else_is_refused(open_shop: Workshop) -> None:
    open_shop.state.mkdir(mode=0o777)
    os.chown(open_shop.state, 1234, 1234)

    with pytest.raises(Refused) as refused, open_pair(open_shop.pair, None, 1.0):
        pass

    assert refused.value.reason == Refusal.STATE_UNUSABLE
