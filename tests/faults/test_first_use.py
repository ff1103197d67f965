"""First use: a missing mirror is made once, a source without any entry is refused, and what must exist does."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import Done, Rig
from tests.faults.tampering import mounted
from tests.faults.trees import remove

pytestmark = pytest.mark.one_process  # what is refused before anybody works


@pytest.fixture(autouse=True)
def places(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with a source that has a file, without a mirror, and with nothing known of any mirror."""
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.base / "xdg"))
    (rig.source / "file").write_text("content")
    rig.mirror.rmdir()


def refusal(done: Done) -> tuple[int, str, str]:
    told = done.the("pair_refused")
    assert told["hint"]
    return done.code, told["reason"], told["error"]


def is_refused(done: Done, reason: str, sentence: str) -> None:
    code, told, error = refusal(done)
    assert (code, told) == (4, reason)
    assert sentence in error


def identity_in(mirror: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((mirror / ".truecopy/identity.json").read_text())
    return found


def test_a_missing_mirror_is_made_at_first_use_and_gets_the_mode_of_its_source(rig: Rig) -> None:
    rig.source.chmod(0o750)

    done, again = rig.once(), rig.once()

    assert (done.code, again.code) == (0, 0)
    assert done.the("mirror_created")["mirror"] == str(rig.mirror)
    assert done.the("mirror_adopted")["mirror_id"] == identity_in(rig.mirror)["mirror_id"]
    assert not again.of("mirror_created") + again.of("mirror_adopted")
    assert rig.mirrored == rig.wanted
    assert rig.mirror.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("state", ["mirror", "state_dir"])
def test_a_known_mirror_that_is_gone_is_refused_by_every_command_and_not_made(rig: Rig, state: str) -> None:
    options = {"state_dir": str(rig.base / "state")} if state == "state_dir" else {}
    rig.configure(**options)
    assert rig.once().code == 0
    remove(rig.mirror)

    done, planned, compared = rig.once(), rig.run("plan"), rig.run("compare")

    is_refused(done, "mirror_missing", f"{rig.mirror} does not exist, but is known since 20")
    assert f"mkdir {rig.mirror} && truecopy adopt source" in done.the("pair_refused")["hint"]
    assert (planned.code, compared.code) == (4, 4)
    assert not rig.mirror.exists()


def test_a_renamed_pair_is_known_and_one_with_another_mirror_is_new(rig: Rig) -> None:
    rig.configure(pairs=[{"name": "one", "source": str(rig.source), "dest": str(rig.mirror)}])
    assert rig.once().code == 0
    remove(rig.mirror)
    other = rig.base / "other"

    rig.configure(pairs=[{"name": "two", "source": str(rig.source), "dest": str(rig.mirror)}])
    renamed = rig.once()
    rig.configure(pairs=[{"name": "one", "source": str(rig.source), "dest": str(other)}])
    moved = rig.once()

    is_refused(renamed, "mirror_missing", "is known")
    assert (moved.code, moved.copied) == (0, {"file"})


def test_a_mirror_reached_by_another_spelling_of_its_path_is_known(rig: Rig) -> None:
    (rig.base / "link").symlink_to(rig.base)
    assert rig.once().code == 0
    remove(rig.mirror)

    for spelling in (f"{rig.base}/./mirror/", f"{rig.base}/link/mirror"):
        rig.configure(dest_dirs=[spelling])
        is_refused(rig.once(), "mirror_missing", "is known")


def test_the_folder_above_a_mirror_is_never_made(rig: Rig) -> None:
    rig.configure(dest_dirs=[str(rig.base / "not there" / "mirror")])

    done = rig.once()

    is_refused(done, "mirror_missing", f"neither does {rig.base / 'not there'}")
    assert not (rig.base / "not there").exists()


def test_a_dangling_link_is_not_followed_to_make_a_mirror(rig: Rig) -> None:
    rig.mirror.symlink_to(rig.base / "nowhere")

    done = rig.once()

    is_refused(done, "mirror_missing", f"is a link to {rig.base / 'nowhere'}")
    assert not (rig.base / "nowhere").exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 1}', "a folder"])
def test_a_damaged_record_says_that_the_mirror_is_known(rig: Rig, damage: str) -> None:
    assert rig.once().code == 0
    remove(rig.mirror)
    [record] = (rig.base / "xdg/truecopy/pairs").glob("*/known.json")
    record.unlink()
    if damage == "a folder":
        record.mkdir()
    else:
        record.write_text(damage)

    is_refused(rig.once(), "mirror_missing", "is known")


def test_the_state_of_a_version_that_kept_no_records_says_that_the_mirror_is_known(rig: Rig) -> None:
    rig.configure(state_dir=str(rig.base / "state"))
    assert rig.once().code == 0
    remove(rig.mirror)
    remove(rig.base / "state/.pairs")
    (rig.base / "state/source/identity.json").unlink()

    is_refused(rig.once(), "mirror_missing", "its state does")


def test_without_a_home_a_mirror_is_made_and_it_is_said_that_this_is_not_remembered(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(rig.base / "no home"))

    done = rig.once()

    assert (done.code, done.copied) == (0, {"file"})
    assert "no home does not exist" in done.the("mirror_not_recorded")["error"]
    assert not (rig.base / "no home").exists()


def test_a_home_that_is_backed_up_keeps_the_record_of_its_own_mirror(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(rig.source))

    done = rig.once()

    assert (done.code, done.of("mirror_not_recorded")) == (0, [])
    assert (rig.source / ".local/state/truecopy/pairs").is_dir()


def test_an_empty_home_gets_no_record_since_its_disk_may_not_be_mounted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(rig.source))
    (rig.source / "file").unlink()

    for _ in range(2):
        is_refused(rig.once(), "source_never_had_entry", str(rig.source))
    assert not any(rig.source.iterdir())


def test_a_state_folder_is_not_made_above_a_missing_mirror(rig: Rig) -> None:
    disk = rig.base / "disk"
    rig.configure(
        state_dir=str(disk / "state"),
        pairs=[
            {"name": "here", "source": str(rig.source), "dest": str(rig.mirror)},
            {"name": "on-the-disk", "source": str(rig.source), "dest": str(disk / "mirror")},
        ],
    )

    for _ in range(2):
        done = rig.once()

        assert {line["pair"]: line["reason"] for line in done.of("pair_refused")} == {
            "here": "state_unusable",
            "on-the-disk": "mirror_missing",
        }
        assert not disk.exists()


def test_a_new_mirror_is_not_made_in_its_source_nor_in_another_mirror(rig: Rig) -> None:
    (rig.source / "folder").mkdir()
    (rig.base / "link").symlink_to(rig.source / "folder")
    assert rig.once().code == 0
    (rig.base / "link to the mirror").symlink_to(rig.mirror / "folder")

    rig.configure(dest_dirs=[str(rig.base / "link" / "mirror")])
    in_source = rig.once()
    rig.configure(source_dirs=[str(rig.base / "other")], dest_dirs=[str(rig.base / "link to the mirror" / "mirror")])
    (rig.base / "other").mkdir()
    (rig.base / "other" / "file").write_text("content")
    in_mirror = rig.once()

    is_refused(in_source, "overlap", f"lies in the source {rig.source}")
    is_refused(in_mirror, "overlap", f"the mirror of {rig.source}")
    assert not any(rig.base.rglob("mirror/*/mirror"))
    assert not (rig.source / "folder" / "mirror").exists()


def made_in(folder: Path) -> list[Path]:
    """Give what is in a folder, but for the configurations that were checked before (`config/cache.py`)."""
    kept = {"xdg", "xdg/truecopy", "xdg/truecopy/private"}
    found = sorted(path for path in folder.rglob("*") if path.parent.name != "private")
    return [path for path in found if str(path.relative_to(folder)) not in kept]


def test_plan_and_compare_show_what_the_first_cycle_will_do_and_make_nothing(rig: Rig) -> None:
    before = made_in(rig.base)

    planned, compared = rig.run("plan"), rig.run("compare")

    assert planned.code == 0
    assert f"{rig.mirror} does not exist yet; the next cycle makes it" in planned.stdout
    assert "copy" in planned.stdout
    assert " file " in planned.stdout
    assert compared.code == 3
    assert "missing" in compared.stdout
    assert made_in(rig.base) == before


def test_status_of_a_pair_before_and_after_its_mirror_exists_ends_well(rig: Rig) -> None:
    assert [rig.run("status").code, rig.once().code, rig.run("status").code] == [0, 0, 0]


@pytest.mark.needs_root
def test_a_mirror_that_cannot_be_made_is_refused_in_words(rig: Rig, unprivileged: tuple[str, ...]) -> None:
    above = rig.base / "above"
    above.mkdir()
    os.chown(above, 1234, 1234)
    rig.configure(dest_dirs=[str(above / "mirror")])

    done = rig.once(prefix=unprivileged)

    is_refused(done, "mirror_not_writable", "does not exist and cannot be made: Permission denied")


# A source that never had an entry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", ["", ".stfolder", "excluded"])
@pytest.mark.parametrize("mirror", ["missing", "there"])
def test_a_source_with_nothing_in_scope_is_refused_until_it_has_an_entry(rig: Rig, left: str, mirror: str) -> None:
    (rig.source / "file").unlink()
    rig.configure(exclude=["/excluded/"])
    if left:
        (rig.source / left).mkdir()
    if mirror == "there":
        rig.mirror.mkdir()

    done, again, planned = rig.once(), rig.once(), rig.run("plan")
    (rig.source / "file").write_text("content")
    last = rig.once()

    for each in (done, again):
        is_refused(each, "source_never_had_entry", f"{rig.source} holds nothing to copy")
        assert "allow_empty" in each.the("pair_refused")["hint"]
    assert planned.code == 4
    assert (last.code, last.copied) == (0, {"file"})
    assert rig.metric("pairs_refused_total", reason="source_never_had_entry") == 2


def test_a_refused_empty_source_makes_no_mirror(rig: Rig) -> None:
    (rig.source / "file").unlink()

    rig.once()

    assert not rig.mirror.exists()


@pytest.mark.parametrize("place", ["pair", "general"])
def test_an_empty_source_is_a_success_where_that_is_allowed(rig: Rig, place: str) -> None:
    (rig.source / "file").unlink()
    pair = {"name": "p", "source": str(rig.source), "dest": str(rig.mirror)}
    if place == "pair":
        rig.configure(pairs=[pair | {"allow_empty": True}])
    else:
        rig.configure(pairs=[pair], allow_empty=True)

    assert [rig.once().code, rig.once().code] == [0, 0]


def test_a_source_that_lost_everything_is_refused_although_it_may_be_empty(rig: Rig) -> None:
    rig.configure(allow_empty=True)
    assert rig.once().code == 0
    (rig.source / "file").unlink()

    is_refused(rig.once(), "source_empty", "is empty, but 1 file of it is in the mirror")


def test_what_is_on_every_new_disk_is_no_content_of_a_mirror(rig: Rig) -> None:
    (rig.source / "file").unlink()
    (rig.mirror / ".stfolder").mkdir(parents=True)

    is_refused(rig.once(), "source_never_had_entry", str(rig.source))


# What must exist -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["photos", "photos/2024/index", "file/below", "link/file", "./gone/"])
def test_a_source_without_what_must_exist_is_refused_before_any_write(rig: Rig, missing: str) -> None:
    (rig.base / "elsewhere").mkdir()
    (rig.base / "elsewhere" / "file").touch()
    (rig.source / "link").symlink_to(rig.base / "elsewhere")
    rig.configure(must_exist=["file", missing], state_dir=str(rig.base / "state"))

    done, planned, compared = rig.once(), rig.run("plan"), rig.run("compare")

    is_refused(done, "source_incomplete", f"lacks {missing}, which must exist")
    assert (planned.code, compared.code) == (4, 4)
    assert not rig.mirror.exists()


def test_what_must_exist_may_be_anything_deep_in_the_source(rig: Rig) -> None:
    (rig.source / "a/b").mkdir(parents=True)
    (rig.source / "a/b/link").symlink_to("nowhere")
    rig.configure(must_exist=["file", "a/b", "a/b/link"])

    assert rig.once().code == 0


@pytest.mark.needs_root
def test_a_disk_that_is_not_mounted_below_a_source_is_noticed_by_what_must_exist(rig: Rig) -> None:
    disk = rig.source / "disk"
    disk.mkdir()
    rig.configure(must_exist=["disk/marker"])
    with mounted("tmpfs", disk, "-t", "tmpfs"):
        (disk / "marker").touch()
        first = rig.once()

    assert first.code == 0
    is_refused(rig.once(), "source_incomplete", "lacks disk/marker")


@pytest.mark.parametrize("path", ["/etc", "../file", "a/../b", "", "."])
def test_what_must_exist_has_to_be_a_path_in_the_source(rig: Rig, path: str) -> None:
    rig.configure(must_exist=[path])

    done = rig.run("config", "check")

    assert done.code == 2
    assert "must_exist[0]" in done.stderr + done.stdout
    assert "not a path inside the source" in done.stderr + done.stdout


# What is kept of a refusal -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["mirror", "state_dir"])
def test_refusals_are_counted_on_over_one_shot_runs_although_there_is_no_state_folder(rig: Rig, state: str) -> None:
    rig.configure(
        dest_dirs=[str(rig.base / "not there" / "mirror")],
        **({"state_dir": str(rig.base / "state")} if state == "state_dir" else {}),
    )

    for count in (1, 2, 3):
        rig.once()

        assert rig.metric("pairs_refused_total", reason="mirror_missing") == count
        assert rig.metric("cycles_total", result="refused") == count
        assert rig.metric("last_success_timestamp_seconds") == 0


def test_the_counters_of_a_pair_go_on_while_its_mirror_is_gone_and_when_it_is_back(rig: Rig) -> None:
    assert rig.once().code == 0
    success = rig.metric("last_success_timestamp_seconds")
    rig.mirror.rename(rig.base / "disk")

    rig.once()
    rig.once()
    # What lay in the mirror is not reachable, and nothing of it is made up.
    assert rig.metric("pairs_refused_total", reason="mirror_missing") == 2
    (rig.base / "disk").rename(rig.mirror)
    assert rig.once().code == 0

    assert rig.metric("pairs_refused_total", reason="mirror_missing") == 2
    assert rig.metric("cycles_total", result="success") == 2
    assert rig.metric("files_copied_total") == 1
    assert rig.metric("last_success_timestamp_seconds") >= success > 0


def test_status_knows_of_a_refusal_of_a_pair_that_never_succeeded(rig: Rig) -> None:
    rig.configure(dest_dirs=[str(rig.base / "not there" / "mirror")])
    rig.once()

    [pair] = json.loads(rig.run("status", "--json").stdout)["pairs"]

    assert (pair["result"], pair["last_success"]) == ("refused", None)
    assert pair["last_attempt"]


@pytest.mark.needs_root
def test_nothing_is_kept_through_a_link_in_the_place_of_the_records(rig: Rig) -> None:
    victim = rig.base / "victim"
    victim.mkdir()
    (rig.base / "xdg").mkdir()
    (rig.base / "xdg/truecopy").symlink_to(victim)
    os.chown(rig.base / "xdg/truecopy", 4711, 4711, follow_symlinks=False)

    done = rig.once()

    assert done.code == 0
    assert "link of user 4711" in done.the("mirror_not_recorded")["error"]
    assert not any(victim.iterdir())


def records_in(folder: Path) -> list[str]:
    return sorted(path.name for path in made_in(folder) if path.is_file())


def test_a_pair_has_two_small_records_whatever_it_goes_through(rig: Rig) -> None:
    for number in range(3):
        (rig.source / f"{number}").touch()
        rig.once()

    mirror_id = identity_in(rig.mirror)["mirror_id"]
    assert records_in(rig.base / "xdg") == sorted(["README.txt", f"{mirror_id}.json", "known.json"])


def test_a_home_that_is_backed_up_comes_to_rest_although_its_mirror_is_remembered_in_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(rig.source / "state"))

    first, second, third = rig.once(), rig.once(), rig.once()

    assert (first.code, second.code, third.code) == (0, 0, 0)
    assert third.counts[:2] == (0, 0)
    assert not [name for name in rig.mirrored if b"pairs/.truecopy" in name]


def test_a_second_config_onto_a_mirror_leaves_the_history_of_its_owner_alone(rig: Rig) -> None:
    (rig.source / "file").write_text("content")
    assert rig.once().code == 0
    other = rig.base / "other"
    other.mkdir()
    (other / "file").write_text("of another source")
    owner = json.loads(rig.config.read_text())

    rig.configure(source_dirs=[str(other)])
    refused = rig.once()
    second = json.loads(rig.run("status", "--json").stdout)["pairs"][0]
    rig.config.write_text(json.dumps(owner))
    first = json.loads(rig.run("status", "--json").stdout)["pairs"][0]

    assert refused.code == 4
    assert (second["result"], second["last_success"]) == ("refused", None)
    assert first["result"] == "success"
    assert first["last_success"] is not None
    assert not [name for name in os.listdir(rig.mirror / ".truecopy") if "earlier" in name]
