"""Which mirror a pair may use, row by row, on real folders and disks: missing, empty, filled, own, another's, unknown.

`core/mirror_identity.py` has the table. The mirror that does not exist is in `test_first_use.py`.
"""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.faults.containers import Container
from tests.faults.images import make
from tests.faults.rig import Done, Rig, temps_in, until
from tests.faults.tampering import NO_LOOP_DEVICE, mounted, run
from tests.faults.trees import remove

pytestmark = pytest.mark.one_process  # what is refused before anybody works

DISK = 16 << 20


@pytest.fixture(autouse=True)
def places(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with a source that has a file, and with nothing remembered."""
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.base / "xdg"))
    (rig.source / "file").write_text("content")


def is_refused(done: Done, reason: str, sentence: str, step: str) -> None:
    told = done.the("pair_refused")
    assert (done.code, told["reason"]) == (4, reason)
    assert sentence in told["error"]
    assert step in told["hint"]


def identity_in(mirror: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((mirror / ".truecopy/identity.json").read_text())
    return found


def forget(rig: Rig) -> None:
    remove(rig.base / "xdg/truecopy/pairs")


def contents(folder: Path) -> dict[str, bytes]:
    """Give what the files of a mirror hold, without its state."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".truecopy" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@contextmanager
def inserted(image: Path, at: Path) -> Iterator[Path]:
    """Mount a disk for a while."""
    with mounted(str(image), at, "-o", "loop"):
        with suppress(FileNotFoundError):
            (at / "lost+found").rmdir()
        yield at
    os.sync()


def new_disk(path: Path, kind: str = "ext4") -> Path:
    make(path, kind, DISK)
    return path


# Nothing is remembered ------------------------------------------------------------------------------------------------


def test_an_empty_folder_is_adopted(rig: Rig) -> None:
    done = rig.once()

    adopted = done.the("mirror_adopted")
    assert (done.code, done.copied, adopted["compared"]) == (0, {"file"}, False)
    assert adopted["mirror_id"] == identity_in(rig.mirror)["mirror_id"]
    assert not done.of("mirror_created")


def test_a_filled_folder_is_adopted_and_its_contents_are_compared(rig: Rig) -> None:
    shutil.copy2(rig.source / "file", rig.mirror / "file")
    (rig.source / "wrong").write_text("right")
    (rig.mirror / "wrong").write_text("wrong")
    shutil.copystat(rig.source / "wrong", rig.mirror / "wrong")
    (rig.mirror / "extra").write_text("kept")

    done = rig.once()

    assert (done.code, done.copied, done.the("mirror_adopted")["compared"]) == (0, {"wrong"}, True)
    assert contents(rig.mirror) == {"file": b"content", "wrong": b"right", "extra": b"kept"}


def test_a_mirror_that_names_the_source_goes_on_although_the_memory_was_lost(rig: Rig) -> None:
    assert rig.once().code == 0
    before = identity_in(rig.mirror)["mirror_id"]
    forget(rig)

    done = rig.once()

    assert (done.code, done.copied, done.of("mirror_adopted")) == (0, set(), [])
    assert identity_in(rig.mirror)["mirror_id"] == before
    remove(rig.mirror)
    is_refused(rig.once(), "mirror_missing", "is known since 20", "truecopy adopt source")


@pytest.mark.parametrize("memory", ["kept", "lost"])
def test_the_mirror_of_another_source_is_refused_whatever_is_remembered(rig: Rig, memory: str) -> None:
    assert rig.once().code == 0
    if memory == "lost":
        forget(rig)
    other = rig.base / "other"
    other.mkdir()
    (other / "file").write_text("of another source")
    rig.configure(source_dirs=[str(other)])

    done = rig.once()

    is_refused(done, "mirror_other", f"is the mirror of {rig.source} (pair source", "truecopy adopt other --take-over")
    assert contents(rig.mirror) == {"file": b"content"}


# One is remembered ----------------------------------------------------------------------------------------------------


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.ext4")
@pytest.mark.parametrize("state", ["mirror", "state_dir"])
def test_the_bare_mount_point_of_a_mirror_is_refused_and_nothing_is_written_to_it(rig: Rig, state: str) -> None:
    rig.configure(**({"state_dir": str(rig.base / "state")} if state == "state_dir" else {}))
    with inserted(new_disk(rig.base / "disk.img"), rig.mirror):
        assert rig.once().code == 0

    bare, planned, compared = rig.once(), rig.run("plan"), rig.run("compare")
    with inserted(rig.base / "disk.img", rig.mirror):
        back = rig.once()

    is_refused(bare, "mirror_missing", f"the mirror {rig.mirror} is empty, but is known since", "Mount the disk")
    assert (planned.code, compared.code) == (4, 4)
    assert not any(rig.mirror.iterdir())
    assert (back.code, back.copied) == (0, set())


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.ext4")
def test_a_filled_folder_on_another_disk_is_refused_and_left_alone(rig: Rig) -> None:
    with inserted(new_disk(rig.base / "disk.img"), rig.mirror):
        assert rig.once().code == 0
    (rig.mirror / "file").write_text("of somebody else")

    done = rig.once()

    is_refused(done, "mirror_unknown", "holds entries and no identity", "truecopy adopt source")
    assert contents(rig.mirror) == {"file": b"of somebody else"}


@pytest.mark.parametrize("lost", ["identity.json", "all"])
def test_a_mirror_without_its_identity_on_the_same_disk_is_compared(rig: Rig, lost: str) -> None:
    (rig.source / "wrong").write_text("right")
    assert rig.once().code == 0
    before = identity_in(rig.mirror)["mirror_id"]
    if lost == "all":
        remove(rig.state)
    else:
        (rig.state / lost).unlink()
    seen = (rig.mirror / "wrong").stat()
    (rig.mirror / "wrong").write_text("wrong")
    os.utime(rig.mirror / "wrong", ns=(seen.st_atime_ns, seen.st_mtime_ns))

    done = rig.once()

    assert (done.code, done.copied) == (0, {"wrong"})
    assert "although the mirror is known since" in done.the("state_folder_lost")["error"]
    assert identity_in(rig.mirror)["mirror_id"] == before


def test_a_mirror_of_the_source_that_is_not_known_here_is_refused(rig: Rig) -> None:
    assert rig.once().code == 0
    rig.mirror.rename(rig.base / "first")
    forget(rig)
    rig.mirror.mkdir()
    assert rig.once().code == 0
    rig.mirror.rename(rig.base / "second")
    (rig.base / "first").rename(rig.mirror)

    done = rig.once()

    is_refused(done, "mirror_unknown", f"is a mirror of {rig.source} since 20", "truecopy adopt source")


def test_swapped_mirrors_of_a_list_are_refused_both(rig: Rig) -> None:
    names = ("one", "two")
    for name in names:
        (rig.base / name).mkdir()
        (rig.base / name / "file").write_text(name)
    rig.configure(source_dirs=[str(rig.base / name) for name in names], dest_dirs=[f"{rig.base}/m1", f"{rig.base}/m2"])
    assert rig.once().code == 0

    rig.configure(source_dirs=[str(rig.base / name) for name in names], dest_dirs=[f"{rig.base}/m2", f"{rig.base}/m1"])
    done = rig.once()

    assert done.code == 4
    assert [line["reason"] for line in done.of("pair_refused")] == ["mirror_other"] * 2
    assert (rig.base / "m1/file").read_text() == "one"


def test_a_mirror_may_move_to_another_path(rig: Rig) -> None:
    assert rig.once().code == 0
    (rig.source / "second").touch()
    assert rig.once().code == 0
    rig.mirror.rename(rig.base / "moved")
    rig.configure(dest_dirs=[str(rig.base / "moved")])
    (rig.source / "third").touch()
    moved = rig.once()
    (rig.base / "moved").rename(rig.mirror)
    rig.configure()

    back = rig.once()

    assert (moved.code, moved.copied, back.code, back.copied) == (0, {"third"}, 0, set())


# Clones ---------------------------------------------------------------------------------------------------------------


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.ext4")
def test_a_clone_beside_its_original_is_refused_until_it_is_adopted_with_an_id_of_its_own(rig: Rig) -> None:
    image, clone = new_disk(rig.base / "disk.img"), rig.base / "clone.img"
    with inserted(image, rig.mirror):
        assert rig.once().code == 0
    shutil.copyfile(image, clone)  # as `dd` does
    beside = rig.base / "beside"
    pairs = [{"name": name, "source": str(rig.source), "dest": str(rig.base / name)} for name in ("mirror", "beside")]
    rig.configure(pairs=pairs)

    with inserted(image, rig.mirror), inserted(clone, beside):
        done = rig.once()
        adopted = rig.run("adopt", "beside")
        after = rig.once()
        ids = {identity_in(place)["mirror_id"] for place in (rig.mirror, beside)}

    refused = {line["pair"]: line for line in done.of("pair_refused")}
    assert refused["beside"]["reason"] == "mirror_other"
    assert "two copies of one mirror" in refused["beside"]["error"]
    assert "Unmount the clone" in refused["beside"]["hint"]
    assert (done.code, adopted.code, after.code, len(ids)) == (4, 0, 0, 2)


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.ext4")
@pytest.mark.parametrize("state", ["mirror", "state_dir"])
def test_a_clone_in_place_of_its_original_is_refused_once_the_original_was_written_to(rig: Rig, state: str) -> None:
    rig.configure(**({"state_dir": str(rig.base / "state")} if state == "state_dir" else {}))
    image, clone = new_disk(rig.base / "disk.img"), rig.base / "clone.img"
    with inserted(image, rig.mirror):
        assert rig.once().code == 0
    shutil.copyfile(image, clone)
    (rig.source / "file").write_text("newer")
    with inserted(image, rig.mirror):
        assert rig.once().code == 0

    with inserted(clone, rig.mirror):
        done = rig.once()
        left = contents(rig.mirror)
        adopted = rig.run("adopt", "source")
        after = rig.once()

    is_refused(done, "mirror_unknown", "is not as the last cycle known here left it", "truecopy adopt source")
    assert left == {"file": b"content"}
    assert (adopted.code, after.code, after.copied) == (0, 0, {"file"})


def test_a_run_that_was_killed_at_its_mark_goes_on(rig: Rig) -> None:
    assert rig.once().code == 0
    memory = next((rig.base / "xdg/truecopy/pairs/.truecopy").glob("*.json"))
    before = memory.read_text()
    (rig.source / "file").write_text("newer")
    assert rig.once().code == 0
    memory.write_text(before)  # as after a kill between the mark and the end of the cycle
    (rig.source / "file").write_text("newest")

    done, again = rig.once(), rig.once()

    assert (done.code, done.copied, again.code) == (0, {"file"}, 0)


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_an_identity_that_changes_in_mid_run_ends_the_pair_before_the_next_commit(rig: Rig, how: str) -> None:
    (rig.source / "large").write_bytes(bytes(400_000))
    rig.configure(rate_limit=40_000)
    with rig.started("run", "--once") as running:
        until(lambda: temps_in(rig.mirror))
        identity = rig.state / "identity.json"
        content = identity.read_text()
        identity.unlink()
        if how == "replaced":
            identity.write_text(content)
        code = running.process.wait(60)
        failed = running.wait_for("pair_failed")

    assert code == 1
    assert "identity.json was removed or replaced in mid-run" in failed["error"]
    assert not [line for line in running.lines if line["event"] == "file_copied" and line["path"] == "large"]
    assert rig.once().code == 0


# Disks that take turns ------------------------------------------------------------------------------------------------


def on_day(day: int) -> tuple[str, ...]:
    """Give the prefix of a command that finds the clock so many days ahead."""
    return ("env", "NO_FAKE_STAT=1", "faketime", "-f", f"+{day}d")


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.ext4")
@pytest.mark.needs_tool("faketime")
@pytest.mark.parametrize("state", ["mirror", "state_dir"])
def test_disks_take_turns_for_a_week_each_with_its_own_index_and_age(rig: Rig, state: str) -> None:
    rig.configure(**({"state_dir": str(rig.base / "state")} if state == "state_dir" else {}))
    images = [new_disk(rig.base / f"{name}.img") for name in ("red", "green", "blue")]
    (rig.source / "file").write_text("never changed")
    told: dict[str, Any] = {}
    for day in range(7):
        (rig.source / f"day {day}").write_text(f"{day}")
        with inserted(images[day % 3], rig.mirror):
            if 0 < day < 3:
                blank = rig.once(prefix=on_day(day))
                assert blank.the("pair_refused")["reason"] == "mirror_missing"
                adopted = rig.run("adopt", "source", prefix=on_day(day))
                assert adopted.code == 0, adopted.stderr
            done = rig.once(prefix=on_day(day))
            assert done.code == 0
            new = {f"day {each}" for each in range(max(0, day - 2) if day > 2 else 0, day + 1)}
            assert done.copied == new | ({"file"} if day < 3 else set())
            assert not done.of("index_rebuilt")
            assert not done.of("drift_found")
            assert rig.mirrored == rig.wanted
            again = rig.once(prefix=on_day(day))
            assert (again.code, again.copied) == (0, set())
            [told] = json.loads(rig.run("status", "--json", prefix=on_day(day)).stdout)["pairs"]
    assert not any(rig.mirror.iterdir())

    [away] = json.loads(rig.run("status", "--json", prefix=on_day(7)).stdout)["pairs"]
    lines = rig.run("status", prefix=on_day(7)).stdout
    assert [each["present"] for each in told["mirrors"]] == [False, False, True]
    assert [each["present"] for each in away["mirrors"]] == [False] * 3
    days = [datetime.fromisoformat(each["last_success"]) for each in away["mirrors"]]
    assert [round((later - before) / timedelta(hours=1)) for before, later in pairwise(days)] == [24, 24]
    # The pair is as old as its most recent disk.
    for each in (told, away):
        assert abs(datetime.fromisoformat(each["last_success"]) - days[-1]) < timedelta(seconds=60)
    assert lines.count("    disk ") == 3
    if state == "state_dir":
        folders = sorted(path.name for path in (rig.base / "state").iterdir() if not path.name.startswith("."))
        assert folders[0] == "source"
        assert [len(name) for name in folders] == [6, 15, 15]
        assert rig.metric("cycles_total", result="success") == 14


# Mounts that come and go ----------------------------------------------------------------------------------------------


@pytest.mark.needs_root
@pytest.mark.needs_tool("mkfs.ext4")
@pytest.mark.parametrize("side", ["source", "mirror"])
def test_a_service_outlives_a_disk_that_is_away_before_the_first_and_between_later_cycles(rig: Rig, side: str) -> None:
    image, place = new_disk(rig.base / "disk.img"), rig.source if side == "source" else rig.mirror
    (rig.source / "file").unlink()
    with inserted(image, place):
        (rig.source / "file").write_text("content")
        assert rig.once().code == 0
    reason = "source_empty" if side == "source" else "mirror_missing"

    with rig.started("run") as service:
        service.wait_for("pair_refused", reason=reason)
        for number in (1, 2):
            with inserted(image, place):
                (rig.source / f"new {number}").write_text("content")
                service.wait_for("file_copied", path=f"new {number}")
                service.wait_for("pair_finished", result="success", count=number)
                # Lazily, as a cycle may keep it busy.
                run("umount", "--lazy", str(place))
                refused = len([line for line in service.lines if line["event"] == "pair_refused"])
                service.wait_for("pair_refused", reason=reason, count=refused + 1)
                assert not any(place.iterdir())
                run("mount", "-o", "loop", str(image), str(place), passing=NO_LOOP_DEVICE)
        last = service.end(signal.SIGTERM)[0]

    assert last == 0
    with inserted(image, place):
        assert rig.once().code == 0
        assert rig.mirrored == rig.wanted


# Two configurations on one mirror -------------------------------------------------------------------------------------


def test_two_configurations_with_one_memory_and_one_source_are_one_pair(rig: Rig) -> None:
    assert rig.once().code == 0
    (rig.source / "second").touch()
    rig.configure(pairs=[{"name": "other", "source": str(rig.source), "dest": str(rig.mirror)}])

    done = rig.once()

    assert (done.code, done.copied) == (0, {"second"})


def test_of_two_configurations_with_memories_of_their_own_the_one_that_did_not_write_last_is_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(memory: str) -> Done:
        monkeypatch.setenv("XDG_STATE_HOME", str(rig.base / memory))
        (rig.source / "file").write_text(os.urandom(8).hex())
        return rig.once()

    assert once("one").code == 0
    let_in = once("two")
    left = contents(rig.mirror)
    first, second = once("one"), once("two")

    assert let_in.code == second.code == 0
    is_refused(first, "mirror_unknown", "is not as the last cycle known here left it", "Another instance wrote to it")
    assert left["file"] != contents(rig.mirror)["file"] == (rig.source / "file").read_bytes()


def test_of_two_configurations_with_other_sources_the_second_is_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rig.once().code == 0
    other = rig.base / "other"
    other.mkdir()
    (other / "file").write_text("of another source")
    for memory in ("xdg", "of another user"):
        monkeypatch.setenv("XDG_STATE_HOME", str(rig.base / memory))
        rig.configure(source_dirs=[str(other)])

        is_refused(rig.once(), "mirror_other", f"is the mirror of {rig.source}", "--take-over")
    assert contents(rig.mirror) == {"file": b"content"}


# In a container -------------------------------------------------------------------------------------------------------


@pytest.fixture
def container(rig: Rig) -> Iterator[Container]:
    for name in ("xdg", "volume"):
        (rig.base / name).mkdir()
    with mounted("tmpfs", rig.base / "layer", "-t", "tmpfs") as layer:
        yield Container(rig, layer)


def volumes(rig: Rig, *, mirror: bool = False, memory: bool = True) -> dict[Path, Path]:
    """Give the folders of the host by their paths in the container: always the source."""
    found = {rig.source: rig.source}
    found |= {rig.mirror: rig.base / "volume"} if mirror else {}
    return found | ({rig.base / "xdg": rig.base / "xdg"} if memory else {})


@pytest.mark.needs_root
@pytest.mark.needs_tool("unshare")
@pytest.mark.parametrize("found", ["missing", "empty", "filled"])
def test_nothing_is_written_to_the_own_layer_of_a_container(rig: Rig, container: Container, found: str) -> None:
    if found == "missing":
        rig.mirror.rmdir()
    elif found == "filled":
        (rig.mirror / "file").write_text("of the image")

    first = container.once(volumes(rig))
    with_volume = container.once(volumes(rig, mirror=True))
    without = container.once(volumes(rig))

    assert (with_volume.code, with_volume.copied) == (0, {"file"})
    for each in (first, without):
        is_refused(each, "mirror_not_mounted", "lies in the container itself", "Mount a volume or a folder of the host")
    assert (rig.base / "volume/file").read_text() == "content"
    assert not container.holds(rig.mirror / "file")


@pytest.mark.needs_root
@pytest.mark.needs_tool("unshare")
def test_a_mirror_on_the_layer_of_a_container_goes_on_once_it_was_adopted_there(rig: Rig, container: Container) -> None:
    adopted = container.run("adopt", "source", volumes=volumes(rig))

    done = container.once(volumes(rig))

    assert (adopted.code, done.code, done.copied) == (0, 0, {"file"})
    assert container.holds(rig.mirror / "file")
    assert not (rig.mirror / "file").exists()


@pytest.mark.needs_root
@pytest.mark.needs_tool("unshare")
@pytest.mark.parametrize("state", ["mirror", "state_dir"])
def test_a_container_whose_memory_lies_on_its_own_layer_says_so_at_each_start(
    rig: Rig, container: Container, state: str
) -> None:
    folder = rig.base / "xdg/truecopy/pairs"
    if state == "state_dir":
        rig.configure(state_dir=str(rig.base / "state"))
        folder = rig.base / "state/.pairs"
    for _ in range(2):
        done = container.once(volumes(rig, mirror=True, memory=False))

        assert done.code == 0
        told = done.the("state_not_persistent")
        assert (told["level"], told["folder"]) == ("warning", str(folder))
        assert done.of("mirror_not_recorded") == []
    rig.configure()
    assert container.once(volumes(rig, mirror=True)).of("state_not_persistent") == []


# The command ----------------------------------------------------------------------------------------------------------


def test_adopt_ends_with_the_code_of_its_outcome_and_asks_nothing(rig: Rig) -> None:
    assert rig.run("adopt", "sorce").code == 2
    empty = rig.run("adopt", "source", "--json")
    again = rig.run("adopt", "source")
    cycle = rig.once()
    remove(rig.mirror)
    missing = rig.run("adopt", "source")

    outcome = json.loads(empty.stdout)
    assert (empty.code, outcome["outcome"], outcome["pair"]) == (0, "adopt", "source")
    assert (again.code, "was a mirror of the pair already" in again.stdout) == (0, True)
    assert (cycle.code, cycle.of("mirror_adopted")) == (0, [])
    assert missing.code == 4
    assert f"mkdir {rig.mirror}" in missing.stderr
    assert not rig.mirror.exists()


def test_a_mirror_that_an_instance_works_on_is_not_adopted(rig: Rig) -> None:
    (rig.source / "large").write_bytes(bytes(400_000))
    rig.configure(rate_limit=40_000)
    with rig.started("run", "--once"):
        until(lambda: temps_in(rig.mirror))
        done = rig.run("adopt", "source")

    assert done.code == 75
    assert "another instance works on the mirror of source" in done.stderr


def test_a_mirror_of_another_pair_is_taken_over_only_if_that_is_asked_for(rig: Rig) -> None:
    assert rig.once().code == 0
    before = identity_in(rig.mirror)["mirror_id"]
    other = rig.base / "other"
    other.mkdir()
    (other / "file").write_text("of another source")
    rig.configure(source_dirs=[str(other)])

    refused, taken = rig.run("adopt", "other"), rig.run("adopt", "other", "--take-over")
    done = rig.once()
    rig.configure()
    former = rig.once()

    assert (refused.code, taken.code, done.code, done.copied) == (4, 0, 0, {"file"})
    assert identity_in(rig.mirror)["mirror_id"] != before
    is_refused(former, "mirror_other", f"is the mirror of {other}", "--take-over")


def test_the_commands_that_a_refusal_names_can_be_pasted(rig: Rig) -> None:
    assert rig.once().code == 0
    remove(rig.mirror)
    hint = rig.once().the("pair_refused")["hint"]
    command = hint.partition("anew: ")[2].replace("truecopy", " ".join(rig.command()), 1)

    subprocess.run(["sh", "-c", command], check=True, cwd=Path(__file__).parents[2], capture_output=True)

    done = rig.once()
    assert (done.code, done.copied) == (0, {"file"})
