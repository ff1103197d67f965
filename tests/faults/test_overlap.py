"""Folders that are one although their paths do not say so: mirrors of two pairs, and a state folder in a tree."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.rig import Done, Rig
from tests.faults.tampering import mounted
from tests.faults.trees import Tree, tree_of

pytestmark = pytest.mark.one_process  # what is refused before anybody works

NEEDS_ROOT = pytest.mark.needs_root


def result_of(done: Done) -> dict[str, str]:
    """Give each pair's result."""
    return {line["pair"]: line["result"] for line in done.of("pair_finished")}


def three_pairs(rig: Rig, first: Path, second: Path) -> Path:
    """Configure two pairs in doubt around one that is healthy, whose mirror is given."""
    names = ("one", "healthy", "two")
    dests = (first, rig.base / "healthy mirror", second)
    for name in names:
        (rig.base / f"source of {name}").mkdir()
        (rig.base / f"source of {name}" / name).write_text(name)
    dests[1].mkdir()
    rig.configure(
        pairs=[
            {"name": name, "source": str(rig.base / f"source of {name}"), "dest": str(dest)}
            for name, dest in zip(names, dests, strict=True)
        ]
    )
    return dests[1]


@pytest.mark.parametrize(
    ("how", "first", "second"),
    [
        ("link", "mirror", "other"),
        ("link", "mirror", "other/inner"),
        ("link", "other/inner", "mirror"),
        pytest.param("bind", "mirror", "other", marks=NEEDS_ROOT),
        pytest.param("bind", "mirror", "other/inner", marks=NEEDS_ROOT),
        pytest.param("bind of the inner one", "mirror", "other", marks=NEEDS_ROOT),
    ],
)
def test_mirrors_that_are_one_folder_or_nested_are_both_refused_and_the_third_pair_is_copied(
    rig: Rig, how: str, first: str, second: str
) -> None:
    (rig.mirror / "inner").mkdir()
    healthy = three_pairs(rig, rig.base / first, rig.base / second)
    before = rig.mirrored

    with ExitStack() as mounts:
        if how == "link":
            (rig.base / "other").symlink_to(rig.mirror)
        else:
            what = rig.mirror / "inner" if how == "bind of the inner one" else rig.mirror
            mounts.enter_context(mounted(str(what), rig.base / "other", "--bind"))
        planned, done = rig.run("plan", "--json"), rig.once()

    assert planned.code == done.code == 4
    assert {line["pair"] for line in planned.lines if line["action"] == "refuse"} == {"one", "two"}
    assert {line["pair"]: line["reason"] for line in done.of("pair_refused")} == {"one": "overlap", "two": "overlap"}
    assert all(line["hint"] for line in done.of("pair_refused"))
    assert result_of(done) == {"one": "refused", "healthy": "success", "two": "refused"}
    assert rig.mirrored == before
    assert not rig.state.exists()
    assert (healthy / "healthy").read_text() == "healthy"


def test_mirrors_side_by_side_are_no_overlap(rig: Rig) -> None:
    for name in ("inner", "inner two"):
        (rig.mirror / name).mkdir()
    three_pairs(rig, rig.mirror / "inner", rig.mirror / "inner two")

    done = rig.once()

    assert done.code == 0
    assert set(result_of(done).values()) == {"success"}


# The state ------------------------------------------------------------------------------------------------------------


def everything(rig: Rig) -> tuple[Tree, Tree, list[str]]:
    return tree_of(rig.source), tree_of(rig.mirror), sorted(os.listdir(rig.mirror))


@pytest.mark.parametrize(
    "place",
    ["source", "source/not there/yet", "source/folder", "mirror", "mirror/state", "to the source/state", "bound/state"],
)
@pytest.mark.needs_root
def test_a_state_folder_in_the_source_or_the_mirror_is_refused_and_never_made(rig: Rig, place: str) -> None:
    (rig.source / "folder").mkdir()
    (rig.source / "file").write_text("content")
    (rig.base / "to the source").symlink_to(rig.source)
    rig.configure(state_dir=str(rig.base / place))
    before = everything(rig)

    with mounted(str(rig.mirror), rig.base / "bound", "--bind"):
        planned, done = rig.run("plan"), rig.once()

    assert planned.code == 4
    told = done.the("pair_refused")
    assert (done.code, told["reason"]) == (4, "state_unusable")
    assert str(rig.base / place) in told["error"]
    assert told["hint"]
    assert everything(rig) == before


def test_a_state_folder_beside_the_source_is_used(rig: Rig) -> None:
    (rig.source / "file").write_text("content")
    state = rig.base / "source and more" / "state"
    rig.configure(state_dir=str(state))

    done = rig.once()

    assert done.code == 0
    assert (state / "source" / "index.sqlite3").exists()
