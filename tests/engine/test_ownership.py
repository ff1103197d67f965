"""Whose mirror, whose state: a mirror has one source, and a state belongs to its pair, whatever the pair is called."""

import json
import os
import shutil
from pathlib import Path

import pytest

from job.app.pair_setup import history_of
from job.core.counts import Tally
from job.core.outcome import Refusal, Result
from job.engine.preflight.adopt import adopt
from job.engine.preflight.open_pair import open_pair
from job.errors import Refused
from job.events.pair import (
    FileCopied,
    HistoryReset,
    IndexRebuilt,
    MirrorAdopted,
    PairBusy,
    PairFinished,
    PairRefused,
    StateFolderLost,
)
from job.store.history import History
from job.store.memory import Memory
from job.store.pair_records import ResolvedPath
from tests.engine.workshop import NOBODY, Told, Workshop

pytestmark = pytest.mark.one_process  # what is refused before anybody works


def pair(shop: Workshop, source: str, mirror: str, name: str = "music", **options: object) -> None:
    """Configure one pair of folders below the base; a source is made with a file in it."""
    (shop.base / source).mkdir(parents=True, exist_ok=True)
    (shop.base / source / f"file of {source.replace('/', ' ')}").write_text(source)
    shop.options["pairs"] = [
        {"name": name, "source": str(shop.base / source), "dest": str(shop.base / mirror), **options}
    ]


def refused(told: Told) -> PairRefused:
    [event] = told.of(PairRefused)
    assert event.hint
    return event


@pytest.mark.parametrize("states", ["in the mirror", "two folders", "one folder"])
def test_a_mirror_of_another_source_is_refused_and_nothing_of_it_changes(shop: Workshop, states: str) -> None:
    first, second = {"two folders": ("one", "two"), "one folder": ("one", "one")}.get(states, ("", ""))
    shop.options |= {"state_dir": str(shop.base / first)} if first else {}
    pair(shop, "first", "mirror")
    assert shop.cycle().result is Result.SUCCESS
    before = shop.names()

    shop.options |= {"state_dir": str(shop.base / second)} if second else {}
    pair(shop, "second", "mirror")
    told = refused(shop.cycle())

    assert told.reason is Refusal.MIRROR_OTHER
    assert f"is the mirror of {shop.base / 'first'} (pair music, since 20" in told.error
    assert "truecopy adopt music --take-over" in told.hint
    assert shop.names() == before
    with pytest.raises(Refused):
        shop.plan()


def test_the_next_step_that_is_told_makes_the_mirror_that_of_the_other_source(shop: Workshop) -> None:
    pair(shop, "first", "mirror")
    shop.cycle()
    pair(shop, "second", "mirror")
    assert refused(shop.cycle()).reason is Refusal.MIRROR_OTHER
    with pytest.raises(Refused):
        adopt(shop.pair, None, shop.memory, 1.0)

    adopt(shop.pair, None, shop.memory, 1.0, take_over=True)

    assert shop.cycle().result is Result.SUCCESS
    assert "file of second" in shop.names()
    pair(shop, "first", "mirror")
    assert refused(shop.cycle()).reason is Refusal.MIRROR_OTHER


def test_another_source_is_refused_while_the_first_is_at_work(shop: Workshop) -> None:
    shop.options["state_dir"] = str(shop.base / "one")
    pair(shop, "first", "mirror")
    with open_pair(shop.pair, str(shop.base / "one"), 1.0):
        shop.options["state_dir"] = str(shop.base / "two")
        pair(shop, "second", "mirror")
        told = shop.cycle()

    assert told.result in {Result.REFUSED, Result.BUSY}
    assert told.of(PairBusy) or refused(told).reason is Refusal.MIRROR_OTHER
    assert shop.names() == set()


def test_one_source_by_another_path_is_still_the_source(shop: Workshop) -> None:
    pair(shop, "first", "mirror")
    shop.cycle()
    (shop.base / "link").symlink_to("first")

    shop.options["pairs"][0]["source"] = str(shop.base / "link")

    assert shop.cycle().result is Result.SUCCESS


def test_the_link_to_a_source_may_be_put_elsewhere(shop: Workshop) -> None:
    pair(shop, "first", "mirror")
    (shop.base / "link").symlink_to("first")
    shop.options["pairs"][0]["source"] = str(shop.base / "link")
    shop.cycle()
    (shop.base / "first").rename(shop.base / "moved")
    (shop.base / "link").unlink()
    (shop.base / "link").symlink_to("moved")

    assert shop.cycle().result is Result.SUCCESS


@pytest.mark.parametrize("memory", ["kept", "lost"])
@pytest.mark.parametrize("place", [False, True], ids=["state in the mirror", "state_dir"])
def test_a_mirror_without_an_identity_is_adopted_and_compared(shop: Workshop, memory: str, *, place: bool) -> None:
    shop.options |= {"state_dir": str(shop.base / "state")} if place else {}
    pair(shop, "first", "mirror")
    shop.cycle()
    for file in shop.base.rglob("identity.json"):
        file.unlink()
    if place:
        shutil.rmtree(shop.state)
    if memory == "lost":
        shop.memory = Memory(str(shop.base / "memory"))

    told = shop.cycle()

    assert (told.result, told.copied, told.tally.drift_by) == (Result.SUCCESS, {}, {})
    assert not told.of(HistoryReset)
    assert [event.compared for event in told.of(MirrorAdopted)] == [True]
    assert bool(told.of(IndexRebuilt))
    assert bool(told.of(StateFolderLost)) == (memory == "kept")
    assert json.loads((shop.state / "identity.json").read_text())["source"] == str(shop.base / "first")


def test_the_mirrors_root_keeps_its_times_when_it_gets_an_identity(shop: Workshop) -> None:
    shop.options |= {"state_dir": str(shop.base / "state")}
    pair(shop, "first", "mirror")
    shop.cycle()
    shutil.rmtree(shop.state)
    source_ns = (shop.base / "first").stat().st_mtime_ns
    os.utime(shop.mirror, ns=(source_ns, source_ns))

    shop.cycle()

    assert shop.mirror.stat().st_mtime_ns == source_ns


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2}', '{"format": 3}', '{"format": 1, "source": 7}'])
def test_an_identity_that_cannot_be_read_is_refused_with_the_next_step(shop: Workshop, content: str) -> None:
    pair(shop, "first", "mirror")
    shop.cycle()
    (shop.state / "identity.json").write_text(content)

    told = refused(shop.cycle())

    assert told.reason is Refusal.STATE_UNUSABLE
    assert "identity.json cannot be used" in told.error
    assert "delete this file" in told.hint


def test_a_cycle_without_changes_writes_no_identity(shop: Workshop) -> None:
    shop.options["state_dir"] = str(shop.base / "state")
    pair(shop, "first", "mirror")
    shop.cycle()
    files = [shop.state / "identity.json", shop.base / "state/music/identity.json"]
    before = [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files]

    shop.cycle()

    assert [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files] == before


# State belongs to the pair, not to its name --------------------------------------------------------------------------


def state_of(shop: Workshop, number: int = 0) -> str:
    config = shop.config
    history = history_of(config, config.effective_pairs[number], shop.memory, failed=lambda *_: None)
    return Path(history._folder).name


def test_a_new_pair_with_the_name_of_an_old_one_gets_a_state_of_its_own_and_both_go_on(shop: Workshop) -> None:
    shop.options["state_dir"] = str(shop.base / "state")
    shop.options["pairs"] = ()
    for name in ("a/data", "b/data", "ma", "mb"):
        (shop.base / name).mkdir(parents=True)
        (shop.base / name / "file").write_text(name) if "/" in name else None
    old, new = ("a/data", "ma"), ("b/data", "mb")

    def configure(*ends: tuple[str, str]) -> None:
        shop.options |= {
            "source_dirs": [str(shop.base / source) for source, _ in ends],
            "dest_dirs": [str(shop.base / mirror) for _, mirror in ends],
        }

    configure(old)
    assert shop.cycle().result is Result.SUCCESS
    configure(new, old)
    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert [event.pair for event in told.of(FileCopied)] == ["data"]
    [anew] = told.of(HistoryReset)
    assert anew.pair == "data"
    assert str(shop.base / "a/data") in anew.reason
    mirror_id = json.loads((shop.base / "mb/.truecopy/identity.json").read_text())["mirror_id"]
    assert [state_of(shop, number) for number in (0, 1)] == [f"data-{mirror_id[:8]}", "data"]
    again = shop.cycle()
    assert (again.result, again.copied, again.of(HistoryReset)) == (Result.SUCCESS, {}, [])


def test_a_renamed_pair_goes_on_with_its_state_and_swapped_names_swap_nothing(shop: Workshop) -> None:
    shop.options["state_dir"] = str(shop.base / "state")
    ends = []
    for name in ("one", "two"):
        pair(shop, name, f"mirror of {name}", name)
        (shop.base / f"mirror of {name}").mkdir()
        ends += shop.options["pairs"]
    shop.options["pairs"] = ends
    shop.cycle()

    shop.options["pairs"] = [each | {"name": name} for each, name in zip(ends, ("two", "one"), strict=True)]
    told = shop.cycle()
    shop.options["pairs"] = [ends[0] | {"name": "three"}]
    renamed = shop.cycle()

    assert (told.result, told.copied, told.of(HistoryReset)) == (Result.SUCCESS, {}, [])
    assert (renamed.result, renamed.copied, state_of(shop)) == (Result.SUCCESS, {}, "one")


def test_a_missing_mirror_is_not_made_for_a_name_that_was_another_source(shop: Workshop) -> None:
    shop.options["state_dir"] = str(shop.base / "state")
    pair(shop, "first", "mirror")
    shop.cycle()

    pair(shop, "second", "not there")
    told = refused(shop.cycle())

    assert told.reason is Refusal.MIRROR_MISSING
    assert f"the pair music was {shop.base / 'first'} with {shop.mirror} until now" in told.error
    assert not (shop.base / "not there").exists()


def finished(result: Result, at: float) -> PairFinished:
    return PairFinished(
        cycle_id="c", pair="p", result=result, tally=Tally(), duration_seconds=1.0, finished_timestamp_seconds=at
    )


def test_a_history_of_another_source_is_set_aside_and_never_read(tmp_path: Path) -> None:
    told: list[object] = []

    def history(source: str) -> History:
        return History(
            str(tmp_path), failed=lambda *what: told.append(what), source=ResolvedPath.of(source), emit=told.append
        )

    assert history("/one").add(finished(Result.SUCCESS, 10.0), {("files_copied_total", ""): 5})
    assert history("/two").read().counts == {}
    assert history("/two").add(finished(Result.SUCCESS, 20.0), {("files_copied_total", ""): 1})

    assert history("/two").read().counts == {("files_copied_total", ""): 1}
    assert history("/two").read().last_success_timestamp_seconds == 20.0
    [event] = told
    assert isinstance(event, HistoryReset)
    assert "/one" in event.reason
    assert len(list(tmp_path.glob("history.sqlite3.earlier-*"))) == 1


# What has the name of something of ours ------------------------------------------------------------------------------


def a_folder_gives_way(shop: Workshop) -> Told:
    (shop.source / "thing").mkdir()
    shop.write("thing/file")
    shop.cycle()
    (shop.source / "thing/file").unlink()
    (shop.source / "thing").rmdir()
    shop.write("thing")
    (shop.state / "versions").write_text("a stranger's")
    return shop.cycle()


def test_a_strangers_file_in_the_place_of_the_versions_is_named_with_what_to_do(shop: Workshop) -> None:
    told = a_folder_gives_way(shop)

    [failed] = [event for event in told.events if event.name == "file_failed"]
    error = vars(failed)["error"]
    assert "keeps older contents in .truecopy/versions of the mirror" in error
    assert f"versions there is a file of user {os.geteuid()}, not a folder: move it away" in error
    assert "Errno" not in error
    (shop.state / "versions").unlink()
    assert shop.cycle().result is Result.SUCCESS


def test_a_file_in_the_place_of_the_state_folder_is_named_with_what_to_do(shop: Workshop) -> None:
    shop.write("file")
    shop.state.touch()

    told = refused(shop.cycle())

    assert f"it is a file of user {os.geteuid()}, not a folder; move it away" in told.error


@pytest.mark.needs_root
@pytest.mark.parametrize("side", ["source", "dest"])
@pytest.mark.parametrize("where", ["last", "on the way"])
def test_a_link_of_somebody_else_is_followed_neither_to_a_source_nor_to_a_mirror(
    shop: Workshop, side: str, where: str
) -> None:
    shop.write("file")
    real = shop.source if side == "source" else shop.mirror
    (shop.base / "open").mkdir()
    (shop.base / "open").chmod(0o1777)
    link = shop.base / "open" / "link"
    link.symlink_to(real if where == "last" else shop.base)
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    given = {"name": "music", "source": str(shop.source), "dest": str(shop.mirror)}
    shop.options["pairs"] = [given | {side: str(link if where == "last" else link / real.name)}]

    told = refused(shop.cycle())
    os.chown(link, 0, 0, follow_symlinks=False)
    own = shop.cycle()

    assert told.reason is Refusal.UNTRUSTED_LINK
    assert f"{link} is a link of user {NOBODY}" in told.error
    assert own.result is Result.SUCCESS
    assert (shop.mirror / "file").exists()
