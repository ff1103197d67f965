"""The brake: what would replace too much is held until a person approves it, and nothing is lost meanwhile."""

import os
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import pytest

from job.core.counts import HeldPlan
from job.core.outcome import BrakeReason, Result, Skip
from job.errors import Exit
from job.events.brake import BrakeHeld, BrakeReleased
from job.events.pair import EntrySetAside, FileSkipped
from job.fs.dircursor import closing_fd
from job.outputs.metrics import Metrics
from job.store.held_plan import approve_plan, read_plan
from job.store.held_table import HeldTable
from job.store.history import History
from job.store.index import Index
from tests.engine.workshop import Told, Workshop, assert_mirrored

FOLDERS, FILES = 10, 30


class Braked:
    """A pair with 300 files, whose history is kept as an application keeps it."""

    def __init__(self, shop: Workshop, **brake: object) -> None:
        self.shop = shop
        self.brake(**brake)
        for number in range(FOLDERS * FILES):
            shop.write(self.name(number), f"content of {number}\n" * 9)

    def brake(self, **brake: object) -> None:
        self.shop.options["brake"] = brake

    @staticmethod
    def name(number: int) -> str:
        return f"folder {number % FOLDERS}/file {number}.txt"

    def cycle(self) -> Told:
        told = self.shop.cycle()
        self.remember(told)
        return told

    def remember(self, told: Told) -> None:
        metrics = Metrics(history=self.history, version="0", python="0")
        off = [pair.name for pair in self.shop.config.effective_pairs if pair.brake is None]
        metrics.configure(pairs=["music"], interval_seconds=1, run_enabled=True, unbraked=off)
        for event in told.events:
            metrics(event)
        gauges = {
            labels[-1]: value
            for family in metrics.families()
            if family.series.name == "hold_active"
            for labels, value in family.samples
        }
        self.active = [reason for reason, value in gauges.items() if value]

    def history(self, _: str) -> History:
        return History(str(self.shop.state), failed=lambda _, error: pytest.fail(error))

    @property
    def plan(self) -> HeldPlan | None:
        with closing_fd(os.open(self.shop.state, os.O_RDONLY)) as state:
            return read_plan(state)

    def approve(self) -> bool:
        assert self.plan is not None
        with closing_fd(os.open(self.shop.state, os.O_RDONLY)) as state:
            return approve_plan(state, self.plan.plan, self.shop.now_ns() / 1e9)

    def overwrite(self, numbers: Iterable[int], size: int = 500) -> None:
        for number in numbers:
            (self.shop.source / self.name(number)).write_bytes(os.urandom(size))

    def contents(self) -> dict[str, bytes]:
        found = self.shop.mirror
        return {
            str(path.relative_to(found)): path.read_bytes()
            for path in found.rglob("*")
            if path.is_file() and ".truecopy" not in path.parts
        }


@pytest.fixture
def braked(shop: Workshop) -> Braked:
    found = Braked(shop)
    assert found.cycle().result is Result.SUCCESS  # a first adoption is no brake
    return found


def the_hold(told: Told) -> BrakeHeld:
    assert told.result is Result.HELD
    assert told.result.exit is Exit.REFUSED
    [held] = told.of(BrakeHeld)
    return held


def test_a_day_of_ransomware_is_held_and_an_approval_releases_exactly_that(braked: Braked) -> None:
    before, shop = braked.contents(), braked.shop
    braked.overwrite(range(180))
    for number in range(60):
        path = shop.source / braked.name(number)
        path.rename(f"{path}.locked")
    shop.write("letter.txt", "pay")

    held = the_hold(braked.cycle())

    after = braked.contents()
    assert {name: after[name] for name in before} == before
    assert after["letter.txt"] == b"pay"
    assert len(after) == 300 + 60 + 1
    assert (held.reason, held.files, held.tripped, len(held.examples)) == (BrakeReason.SHARE, 120, True, 10)
    assert held.known == 300
    assert braked.active == ["share"]
    assert braked.plan is not None
    assert (braked.plan.plan, braked.plan.files) == (held.plan, 120)

    again = the_hold(braked.cycle())

    assert (again.plan, again.files, again.tripped) == (held.plan, 120, False)
    assert braked.contents() == after
    assert braked.approve()
    assert not braked.approve()  # it is approved already

    done = braked.cycle()

    assert done.result is Result.SUCCESS
    assert [event.reason for event in done.of(BrakeReleased)] == ["its plan was approved, and is done"]
    assert done.tally.copied == 120
    assert_mirrored(shop)
    assert_released(braked)
    assert {name for name, path in shop.retired.items() if path.is_file()} == {
        braked.name(number) for number in range(60, 180)
    }
    assert braked.cycle().result is Result.SUCCESS


def test_what_changed_after_the_hold_is_judged_anew(braked: Braked) -> None:
    braked.overwrite(range(150))
    the_hold(braked.cycle())
    braked.overwrite(range(150, 200))  # few enough
    braked.overwrite([3])  # its held change is another now
    assert braked.approve()

    done = braked.cycle()

    assert done.result is Result.SUCCESS
    assert done.tally.copied == 200

    braked.overwrite(range(150))
    the_hold(braked.cycle())
    assert braked.approve()
    braked.overwrite(range(150, 300))
    before = braked.contents()

    held = the_hold(braked.cycle())

    assert (held.files, held.tripped) == (150, True)
    after = braked.contents()
    changed = {name for name, content in after.items() if before[name] != content}
    assert changed == {braked.name(number) for number in range(150)}
    assert braked.approve()
    assert braked.cycle().result is Result.SUCCESS
    assert_mirrored(braked.shop)


def test_a_source_that_is_brought_back_releases_the_hold(braked: Braked) -> None:
    shop, contents = braked.shop, braked.contents()
    braked.overwrite(range(150), len(contents[braked.name(100)]))
    the_hold(braked.cycle())
    for number in range(150):  # with other times, as `cp` without `-p` does
        (shop.source / braked.name(number)).write_bytes(contents[braked.name(number)])

    done = braked.cycle()

    assert done.result is Result.SUCCESS
    assert [event.reason for event in done.of(BrakeReleased)] == ["nothing is left to hold"]
    assert braked.plan is None
    assert (done.tally.copied, done.tally.updated) == (0, 150)
    assert_mirrored(shop)
    braked.overwrite([1])
    assert braked.cycle().result is Result.SUCCESS


def test_a_hold_survives_a_lost_index_and_a_lost_mark(braked: Braked) -> None:
    shop, before = braked.shop, braked.contents()
    braked.overwrite(range(150))
    first = the_hold(braked.cycle())
    (shop.state / "index.sqlite3").unlink()
    assert braked.approve()  # of a plan whose digests are lost: it releases nothing

    held = the_hold(braked.cycle())

    assert (held.files, held.tripped) == (150, False)
    assert held.plan == first.plan
    assert braked.contents() == before
    assert_held_state(braked, 150)


def assert_released(braked: Braked) -> None:
    assert braked.plan is None
    assert braked.active == []


def assert_held_state(braked: Braked, files: int) -> None:
    with closing(Index.open(str(braked.shop.state))) as index:
        assert index.schedule().hold_mark
        assert sum(len(row.waiting) for row in HeldTable(index).rows().values()) == files


def few(braked: Braked) -> None:
    braked.overwrite(range(100))


def share(braked: Braked) -> None:
    braked.overwrite(range(101))


def emptied(braked: Braked) -> None:
    braked.overwrite(range(101), 0)


def chmodded(braked: Braked) -> None:
    for path in braked.shop.source.rglob("*.txt"):
        path.chmod(0o600)


def quietly(braked: Braked) -> None:
    """Change contents, and put size and mtime back."""
    for path in braked.shop.source.rglob("*.txt"):
        seen = path.stat()
        path.write_bytes(os.urandom(seen.st_size))
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def folders(braked: Braked) -> None:
    for path in [*braked.shop.source.rglob("*.txt")][:150]:
        path.unlink()
        path.mkdir()


def moved(braked: Braked) -> None:
    for number in range(FOLDERS):
        (braked.shop.source / f"folder {number}").rename(braked.shop.source / f"moved {number}")


def renamed(braked: Braked) -> None:
    for path in [*braked.shop.source.rglob("*.txt")]:
        path.rename(f"{path}.locked")


@pytest.mark.parametrize(
    ("change", "brake", "reason"),
    [
        (few, {}, None),
        (share, {}, "share"),
        (share, {"share": "50 %"}, None),
        (share, {"files": 101}, None),
        (few, {"share": 0, "files": 99}, "share"),
        (emptied, {}, "emptied"),
        (emptied, {"share": "100 %"}, "emptied"),
        (emptied, {"share": "100 %", "files": 101}, None),
        (chmodded, {}, None),
        (quietly, {}, "share"),
        (folders, {}, "share"),
        (moved, {}, None),
        (renamed, {}, None),
    ],
)
def test_each_condition_alone_stops_all_that_replaces(
    braked: Braked, change: Callable[[Braked], None], brake: dict[str, object], reason: str | None
) -> None:
    braked.brake(**brake)
    before = braked.contents()
    change(braked)

    told = braked.cycle()

    if reason is None:
        assert told.result is Result.SUCCESS
        assert_mirrored(braked.shop)
        return
    assert the_hold(told).reason == reason
    assert braked.contents() == before
    assert not told.of(FileSkipped)  # one event, not one for each file
    assert told.tally.skipped_by[Skip.HELD] == the_hold(told).files
    assert braked.approve()
    assert braked.cycle().result is Result.SUCCESS
    assert_mirrored(braked.shop)


def test_zero_trips_on_the_first_file_and_only_false_is_off(braked: Braked) -> None:
    braked.brake(files=0, share=0)
    braked.overwrite([5])
    assert the_hold(braked.cycle()).files == 1

    braked.shop.options["brake"] = False
    braked.overwrite(range(300))
    told = braked.cycle()

    assert told.result is Result.SUCCESS
    assert braked.plan is None
    assert braked.active == []
    braked.brake()
    braked.overwrite([5])
    assert braked.cycle().result is Result.SUCCESS


@pytest.mark.parametrize("missing", [False, True])
def test_a_canary_stops_everything_until_a_person_acts(braked: Braked, missing: bool) -> None:  # noqa: FBT001
    shop, name = braked.shop, Braked.name(7)
    canary = shop.source / name
    braked.brake(canary=[name])
    os.utime(canary)  # touched only
    braked.overwrite([1])
    assert braked.cycle().result is Result.SUCCESS

    before = braked.contents()
    if missing:
        canary.unlink()
    else:
        canary.write_bytes(b"changed")
    braked.overwrite([2])
    held = the_hold(braked.cycle())

    assert (held.reason, held.examples[0], held.files) == (BrakeReason.CANARY, name, 2)
    assert braked.contents() == before
    held = the_hold(braked.cycle())
    assert (held.files, held.tripped) == (2, False)
    assert braked.approve()
    assert braked.cycle().result is Result.SUCCESS
    assert braked.cycle().result is Result.SUCCESS


def test_a_canary_that_comes_back_releases_the_hold(braked: Braked) -> None:
    name = Braked.name(7)
    braked.brake(canary=[name])
    content = (braked.shop.source / name).read_bytes()
    (braked.shop.source / name).unlink()
    the_hold(braked.cycle())
    the_hold(braked.cycle())
    (braked.shop.source / name).write_bytes(content)

    assert braked.cycle().result is Result.SUCCESS
    assert braked.plan is None


def test_exempt_files_are_replaced_and_counted_apart(braked: Braked) -> None:
    braked.brake(exclude=["/folder 0/", "*5.txt"])
    exempt = {number for number in range(300) if number % 10 in {0, 5}}
    braked.overwrite(sorted(exempt))
    assert braked.cycle().result is Result.SUCCESS
    braked.overwrite(range(300))

    held = the_hold(braked.cycle())

    assert (held.files, held.exempt) == (300 - len(exempt), len(exempt))
    contents = braked.contents()
    for number in range(300):
        is_new = contents[braked.name(number)] == (braked.shop.source / braked.name(number)).read_bytes()
        assert is_new is (number in exempt)


@pytest.mark.parametrize(("batch", "most_lost"), [(1000, 0), (50, 110)])
def test_contents_of_zeros_trip_while_they_are_copied_and_have_versions(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, batch: int, most_lost: int
) -> None:
    monkeypatch.setattr("job.engine.copy.batch.MOST_FILES", batch)
    shop.options["workers"] = 1
    braked = Braked(shop, share="100 %", files=60)
    (shop.source / braked.name(7)).write_bytes(os.urandom(300 << 10))  # not copied as the small ones are
    braked.cycle()
    before = braked.contents()
    for number in range(300):
        path = shop.source / braked.name(number)
        path.write_bytes(bytes(path.stat().st_size))

    held = the_hold(braked.cycle())

    contents, versions = braked.contents(), shop.retired
    replaced = {name for name, content in before.items() if contents[name] != content}
    assert (held.reason, held.files) == (BrakeReason.EMPTIED, 300 - len(replaced))
    assert bool(replaced) is bool(most_lost)
    assert len(replaced) <= most_lost
    assert {name: versions[name].read_bytes() for name in replaced} == {name: before[name] for name in replaced}
    assert the_hold(braked.cycle()).files == held.files
    assert braked.approve()
    assert braked.cycle().result is Result.SUCCESS
    assert_mirrored(shop)


def test_new_names_of_a_held_file_and_linked_names_wait_too(braked: Braked) -> None:
    shop = braked.shop
    for number in range(20):
        os.link(shop.source / braked.name(number), shop.source / f"link {number}")
    braked.cycle()
    before = braked.contents()
    braked.overwrite(range(200))

    held = the_hold(braked.cycle())

    assert held.files == 220
    assert braked.contents() == before
    assert braked.approve()
    assert braked.cycle().result is Result.SUCCESS
    assert_mirrored(shop)


def test_no_folder_is_moved_away_or_opened_to_more_users_while_anything_is_held(braked: Braked) -> None:
    shop = braked.shop
    folder = shop.source / "folder 1"
    folder.chmod(0o700)
    braked.cycle()
    (shop.source / braked.name(1)).unlink()
    braked.cycle()
    folder.chmod(0o755)
    braked.overwrite(range(2, 200))

    told = braked.cycle()

    the_hold(told)
    assert not told.of(EntrySetAside)
    assert (shop.mirror / braked.name(1)).exists()
    assert (shop.mirror / "folder 1").stat().st_mode & 0o777 == 0o700
    assert braked.approve()
    assert braked.cycle().result is Result.SUCCESS
    assert (shop.mirror / "folder 1").stat().st_mode & 0o777 == 0o755


def test_rights_are_narrowed_and_attributes_stay_while_a_content_is_held(braked: Braked) -> None:
    shop = braked.shop
    names = [braked.name(number) for number in range(3)]
    for name in names:
        os.setxattr(shop.source / name, "user.note", b"mine")
    braked.cycle()
    braked.overwrite(range(10, 200))
    os.removexattr(shop.source / names[0], "user.note")
    (shop.source / names[1]).chmod(0o600)
    braked.overwrite([2])
    (shop.source / names[2]).chmod(0o600)

    the_hold(braked.cycle())

    assert os.getxattr(shop.mirror / names[0], "user.note") == b"mine"
    assert [(shop.mirror / name).stat().st_mode & 0o777 for name in names[1:]] == [0o600, 0o600]
    assert braked.approve()
    assert braked.cycle().result is Result.SUCCESS
    assert os.listxattr(shop.mirror / names[0]) == []


def test_drift_of_the_mirror_is_repaired_and_does_not_count(braked: Braked) -> None:
    for path in braked.shop.mirror.rglob("*.txt"):
        path.write_text("drifted")

    told = braked.cycle()

    assert told.result is Result.SUCCESS
    assert sum(told.drift.values()) == 300
    assert_mirrored(braked.shop)


@pytest.mark.parametrize("options", [{"compare": "checksum"}, {"workers": 2, "workers_from": 0}])
def test_it_holds_in_every_way_of_working(shop: Workshop, options: dict[str, object]) -> None:
    shop.options |= options
    braked = Braked(shop)
    braked.cycle()
    before = braked.contents()
    quietly(braked)

    assert the_hold(braked.cycle()).files == 300
    assert the_hold(braked.cycle()).files == 300
    assert braked.contents() == before
    assert braked.approve()
    assert braked.cycle().result is Result.SUCCESS
    assert_mirrored(shop)


def test_a_huge_folder_is_held_part_by_part(huge_shop: Workshop) -> None:
    huge_shop.options["brake"] = {"files": 20}
    braked = Braked(huge_shop, files=20)
    braked.cycle()
    many = sorted((huge_shop.source / "crowd").glob("f-*"))
    for path in many[:60] + [huge_shop.source / braked.name(number) for number in range(100)]:
        path.write_text("changed")

    held = the_hold(braked.cycle())

    assert held.files == 160
    assert "changed" not in {path.read_text() for path in (huge_shop.mirror / "crowd").glob("f-*")}
    assert the_hold(braked.cycle()).plan == held.plan
    assert braked.approve()
    many[0].write_text("once more")
    assert braked.cycle().result is Result.SUCCESS
    assert_mirrored(huge_shop)


@pytest.mark.parametrize("step", range(1, 40, 3))
def test_a_kill_while_the_hold_is_stored_releases_nothing(braked: Braked, step: int) -> None:
    before = braked.contents()
    braked.overwrite(range(101))
    for number in range(300):
        braked.shop.write(f"new/{number}")  # with these, the share is below the limit
    braked.shop.killed_cycle(step)

    the_hold(braked.cycle())

    after = braked.contents()
    assert {name: after[name] for name in before} == before


def test_one_pair_is_held_and_the_others_go_on(shop: Workshop, tmp_path: Path) -> None:
    other = {"name": "other", "source": str(tmp_path / "second"), "dest": str(tmp_path / "copy")}
    for path in (other["source"], other["dest"]):
        Path(path).mkdir()
    (tmp_path / "second/file").write_text("1")
    braked = Braked(shop)
    music = {"name": "music", "source": str(shop.source), "dest": str(shop.mirror)}
    shop.options["pairs"] = [music, other]
    braked.cycle()
    braked.overwrite(range(150))
    (tmp_path / "second/file").write_text("two")

    assert the_hold(braked.cycle()).pair == "music"
    assert (tmp_path / "copy/file").read_text() == "two"


DAY_NS = 86400 * 10**9


def test_what_would_be_retired_counts_and_is_held_by_name(braked: Braked) -> None:
    shop = braked.shop
    shop.options |= {"on_source_delete": "retire", "retire_after": "1 day"}
    before = braked.contents()
    for number in range(150):
        (shop.source / braked.name(number)).unlink()
    assert braked.cycle().result is Result.SUCCESS  # nothing is retired yet
    shop.ahead_ns += 2 * DAY_NS
    told = braked.cycle()
    held = the_hold(braked.cycle() if told.result is Result.SUCCESS else told)

    assert (held.reason, held.files) == (BrakeReason.SHARE, 150)
    assert braked.contents() == before
    assert the_hold(braked.cycle()).plan == held.plan
    assert {line.path for line in shop.plan() if line.action == "hold"} == {
        braked.name(number).encode() for number in range(150)
    }
    assert braked.approve()
    assert braked.cycle().result is Result.SUCCESS
    assert len(braked.contents()) == 150
    assert braked.cycle().result is Result.SUCCESS
    assert braked.plan is None


def test_orphans_that_come_back_release_the_hold(braked: Braked) -> None:
    shop, contents = braked.shop, braked.contents()
    shop.options |= {"on_source_delete": "retire", "retire_after": "1 day"}
    for number in range(150):
        (shop.source / braked.name(number)).unlink()
    braked.cycle()
    shop.ahead_ns += 2 * DAY_NS
    if braked.cycle().result is Result.SUCCESS:
        the_hold(braked.cycle())
    for number in range(150):
        (shop.source / braked.name(number)).write_bytes(contents[braked.name(number)])

    assert braked.cycle().result is Result.SUCCESS
    assert braked.plan is None
    assert braked.contents() == contents
