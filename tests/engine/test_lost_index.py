"""An index that is lost, torn or locked: what it cannot say is found out, and nothing good is thrown away."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from job.core.outcome import Failure, Refusal, Result
from job.events.pair import FileFailed, IndexRebuilt, PairRefused
from tests.engine.interference import interfered
from tests.engine.workshop import Workshop, assert_mirrored


@pytest.fixture
def known(shop: Workshop) -> Workshop:
    """A pair that was mirrored."""
    for name in ("a/file", "b/file"):
        shop.write(name)
    assert shop.cycle().result is Result.SUCCESS
    return shop


def index_of(shop: Workshop) -> Path:
    return shop.state / "index.sqlite3"


def empty(shop: Workshop) -> None:
    """Empty the source, as a disk that is not mounted does."""
    shop.source.rename(shop.base / "unmounted")
    shop.source.mkdir()


def lost(index: Path) -> None:
    index.unlink()


def cut_to_nothing(index: Path) -> None:
    os.truncate(index, 0)


def overwritten(index: Path) -> None:
    index.write_bytes(b"\xff" * 5000)


def without_its_schema(index: Path) -> None:
    """Damage the text of the schema, which SQLite keeps on the first page; invalid UTF-8, too."""
    content = index.read_bytes()
    assert b"CREATE TABLE" in content
    index.write_bytes(content.replace(b"CREATE TABLE", b"CR\xff\xfeTE \x00ABLE"))


def of_an_older_version(index: Path) -> None:
    with closing(sqlite3.connect(index, isolation_level=None)) as connection:
        connection.execute("PRAGMA user_version = 1")


DAMAGES = [lost, cut_to_nothing, overwritten, without_its_schema, of_an_older_version]


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_empty_source_is_refused_although_the_index_knows_nothing_any_more(
    known: Workshop, damage: Callable[[Path], None]
) -> None:
    before = known.names()
    empty(known)
    damage(index_of(known))

    results = [known.cycle() for _ in range(2)]

    for told in results:
        assert [event.reason for event in told.of(PairRefused)] == [Refusal.SOURCE_EMPTY]
        assert told.result is Result.REFUSED
    assert known.names() == before


def test_an_empty_source_and_a_mirror_that_holds_nothing_but_our_state_is_no_alarm(shop: Workshop) -> None:
    shop.options["allow_empty"] = True
    shop.cycle()
    index_of(shop).unlink()

    assert shop.cycle().result is Result.SUCCESS


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_cycle_after_damage_works_copies_nothing_and_mends_the_index(
    known: Workshop, damage: Callable[[Path], None]
) -> None:
    damage(index_of(known))

    told, again = known.cycle(), known.cycle()

    assert told.result is again.result is Result.SUCCESS
    assert told.tally.copied == again.tally.copied == 0
    assert told.tally.skipped == again.tally.skipped == 2
    assert len(told.of(IndexRebuilt)) == 1
    assert again.of(IndexRebuilt) == []
    assert_mirrored(known)


# Locks ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the ten seconds for which a lock is waited out; our own workers hold one for a moment when they start."""
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def connect_at_once(address: str, **options: Any) -> sqlite3.Connection:
        return connect(address, **(options | {"timeout": 0.2}))

    monkeypatch.setattr(sqlite3, "connect", connect_at_once)


@contextmanager
def locked(index: Path) -> Iterator[None]:
    """Have somebody look into the index with a tool that locks it."""
    with closing(sqlite3.connect(index, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


def assert_kept(shop: Workshop, inode: int) -> None:
    assert index_of(shop).stat().st_ino == inode
    assert not list(shop.state.glob("*.torn*"))
    told = shop.cycle()
    assert told.result is Result.SUCCESS
    assert told.of(IndexRebuilt) == []
    assert_mirrored(shop)


@pytest.mark.usefixtures("impatient")
def test_a_locked_index_refuses_the_pair_and_is_not_set_aside(known: Workshop) -> None:
    inode = index_of(known).stat().st_ino

    with locked(index_of(known)):
        told = known.cycle()

    assert [event.reason for event in told.of(PairRefused)] == [Refusal.STATE_UNUSABLE]
    assert "locked" in told.of(PairRefused)[0].error
    assert told.of(IndexRebuilt) == []
    assert_kept(known, inode)


@pytest.mark.one_process
@pytest.mark.usefixtures("impatient")
def test_an_index_that_somebody_locks_in_mid_run_takes_nothing_and_is_not_set_aside(known: Workshop) -> None:
    inode = index_of(known).stat().st_ino
    for name in ("a/new", "b/new"):
        known.write(name)
    locks: list[AbstractContextManager[None]] = []

    def lock(_: Path) -> None:
        if not locks:
            locks.append(locked(index_of(known)))
            locks[-1].__enter__()

    told = known.cycle(interfered(before_copy=lock))
    for each in locks:
        each.__exit__(None, None, None)

    assert len(locks) == 1
    assert told.failed == {b"a/new": Failure.SYNC, b"b/new": Failure.SYNC}
    assert "locked" in told.of(FileFailed)[0].error
    assert told.result is Result.PARTIAL
    assert told.of(IndexRebuilt) == []
    assert known.temps == []
    assert_kept(known, inode)
