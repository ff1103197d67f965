"""Somebody plants links, FIFOs, devices and folders at every name that a run is going to use.

Nothing behind them is read, changed or named; nothing waits for them; what it came to is told, and in the exit code.
"""

import os

import pytest

from tests.faults.outside import KINDS, SHARE, Outside
from tests.faults.rig import Done, Rig
from tests.faults.tampering import journal_that_names
from tests.faults.trees import Tree, remove

pytestmark = [
    pytest.mark.needs_root,  # for devices
    pytest.mark.usefixtures("outside"),
]


in_the_main_process = pytest.mark.one_process
"""What only the main process has to do with, however many workers there are."""


def but_temps(tree: Tree) -> Tree:
    """Give a tree without what lies in folders that somebody gave a name of ours."""
    return {path: thing for path, thing in tree.items() if b".truecopy-tmp-" not in path}


@pytest.mark.parametrize("kind", SHARE)
def test_what_is_planted_at_names_of_temps_is_swept_or_passed_by(rig: Rig, outside: Outside, kind: str) -> None:
    (rig.mirror / "below").mkdir()
    for name in (".truecopy-tmp-probe", ".truecopy-tmp-1234abcd-1", "below/.truecopy-tmp-1234abcd-2"):
        outside.plant(kind, rig.mirror / name)

    done, again = rig.once(), rig.once()

    assert (done.code, again.code) == (0, 0)
    assert but_temps(rig.mirrored).keys() == rig.wanted.keys()
    assert [line["lacks"] for line in done.of("mirror_probed")] == [[]], "it is found out what the mirror can hold"
    # Nothing that is no folder stays; folders with somebody else's things in them are not ours to remove.
    assert all(path.is_dir() and not path.is_symlink() for path in rig.mirror.rglob(".truecopy-tmp-*"))


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("kind", SHARE)
def test_what_is_planted_at_final_names_gives_way(rig: Rig, outside: Outside, kind: str, *, known: bool) -> None:
    if known:
        rig.once()
        for name in ("file", "link"):
            (rig.mirror / name).unlink()
        remove(rig.mirror / "below")
    for name in ("file", "link", "below"):
        outside.plant(kind, rig.mirror / name)

    done, again = rig.once(), rig.once()

    assert (done.code, again.code) == (0, 0)
    assert (again.counts[0], again.drift) == (0, {})
    wanted = rig.wanted
    assert {path: thing for path, thing in rig.mirrored.items() if path in wanted} == wanted
    if kind == "full folder":
        assert {line["path"] for line in done.of("folder_retired")} == {"file", "link"}
        assert all((rig.mirror / line["version"] / "sub").is_dir() for line in done.of("folder_retired"))


@in_the_main_process
@pytest.mark.parametrize("kind", ["link to a folder", "fifo", pytest.param("device", marks=pytest.mark.slow)])
def test_whatever_is_no_folder_is_refused_as_state_folder_by_everybody(rig: Rig, outside: Outside, kind: str) -> None:
    outside.plant(kind, rig.state)

    done, planned, told = rig.once(), rig.run("plan"), rig.run("status")

    assert (done.code, done.the("pair_refused")["reason"]) == (4, "state_unusable")
    assert [path.name for path in rig.mirror.iterdir()] == [".truecopy"]
    assert planned.code == 4
    assert str(rig.state) in planned.stdout
    assert (told.code, told.stderr) == (0, "")
    outside.is_told_nowhere(rig, done.stdout, planned.stdout, told.stdout)


@in_the_main_process
def test_a_state_folder_of_somebody_else_is_refused_and_nothing_in_it_is_opened(rig: Rig) -> None:
    rig.once()
    os.chown(rig.state, 4711, 4711)
    history = rig.state / "history.sqlite3"
    before = history.stat()

    done, planned, told = rig.once(), rig.run("plan"), rig.run("status")

    assert (done.code, done.the("pair_refused")["reason"], planned.code, told.code) == (4, "state_unusable", 4, 0)
    assert "belongs to user 4711" in told.stdout
    assert history.stat() == before
    assert {line["output"] for line in done.of("output_failed")} == {"history"}


@in_the_main_process
@pytest.mark.parametrize("owner", [0, 4711])
def test_journals_that_would_have_sqlite_delete_something_are_not_played_back(
    rig: Rig, outside: Outside, owner: int
) -> None:
    rig.once()
    for name in ("index.sqlite3", "history.sqlite3"):
        hostile = journal_that_names(outside.file, rig.state / name)
        (rig.state / f"{name}-journal").write_bytes(hostile)
    os.chown(rig.state, owner, owner)

    told = [rig.run("status"), rig.run("plan"), rig.once(), rig.run("plan")]

    outside.is_untouched()
    assert [each.code for each in told] == ([0, 0, 0, 0] if owner == 0 else [0, 4, 4, 4])
    if owner == 0:
        assert "names another file" in told[2].the("index_rebuilt")["reason"]
        assert rig.mirrored == rig.wanted


@in_the_main_process
def test_a_state_folder_that_others_may_write_to_is_closed_to_them(rig: Rig) -> None:
    rig.once()
    rig.state.chmod(0o777)

    done = rig.once()

    assert done.code == 0
    assert rig.state.stat().st_mode & 0o022 == 0


VITAL = {
    "index.sqlite3": "link to a file",
    "index.sqlite3-journal": "dangling link",
    "index.sqlite3-wal": "full folder",
}
"""With something else in these places nothing can be remembered. Besides a FIFO, one kind is always tried."""
MINOR = [
    "history.sqlite3",
    "history.sqlite3-journal",
    "mirror.json",
    "README.txt",
    "leftovers",
    "leftovers-1",
    "index.sqlite3.torn",
]


def planted(rig: Rig, outside: Outside, kind: str, names: list[str]) -> Done:
    """Run once with something planted in a state folder that was in use before, and is given work to do."""
    rig.once()
    (rig.source / "file").write_text("newer")
    for name in names:
        (rig.state / name).unlink(missing_ok=True)
        outside.plant(kind, rig.state / name)
    return rig.once()


@in_the_main_process
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(name, kind, marks=() if kind in (usual, "fifo") else pytest.mark.slow)
        for name, usual in VITAL.items()
        for kind in KINDS
    ],
)
def test_what_is_planted_for_the_index_is_refused_by_run_and_plan(
    rig: Rig, outside: Outside, name: str, kind: str
) -> None:
    done = planted(rig, outside, kind, [name])
    plan = rig.run("plan")

    assert (done.code, done.the("pair_refused")["reason"], plan.code) == (4, "state_unusable", 4)
    assert "index.sqlite3" in done.the("pair_refused")["error"]
    assert (rig.mirror / "file").read_text() == "ours: file"


@pytest.mark.parametrize("kind", SHARE)
def test_what_is_planted_for_the_versions_is_told_and_nothing_is_replaced(
    rig: Rig, outside: Outside, kind: str
) -> None:
    done = planted(rig, outside, kind, ["versions"])

    if kind.endswith("folder"):  # of this user: it is used
        assert (done.code, (rig.mirror / "file").read_text()) == (0, "newer")
    else:
        assert (done.code, set(done.failed)) == (3, {"file"})
        assert (rig.mirror / "file").read_text() == "ours: file"


@pytest.mark.parametrize("kind", SHARE)
def test_what_is_planted_for_anything_else_in_the_state_folder_is_told_and_the_copy_goes_on(
    rig: Rig, outside: Outside, kind: str
) -> None:
    done, again = planted(rig, outside, kind, MINOR), rig.once()

    assert (done.code, again.code) == (0, 0)
    assert rig.mirrored == rig.wanted
    assert {line["output"] for line in done.of("output_failed")} == {"history"}
    assert rig.run("status").code == 0


@in_the_main_process
@pytest.mark.parametrize("kind", SHARE)
def test_what_is_planted_for_the_lock_is_refused(rig: Rig, outside: Outside, kind: str) -> None:
    done = planted(rig, outside, kind, ["lock"])

    assert (done.code, done.the("pair_refused")["reason"]) == (4, "state_unusable")
