"""Links planted in mirror, versions and target, and hostile rows of the index, lead a restore nowhere outside."""

import json
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from job.store.codec import UnsupportedMetadata, encode_unsupported
from job.store.index_tree import key_of
from job.store.version_rows import _encode
from tests.faults.flipper import Flip, flipping
from tests.faults.rig import Rig
from tests.faults.trees import tree_of

OLD = "20261101T100000Z"
BEFORE_OLD = "2026-11-01T09:00:00+00:00"
SECRET = "nobody may read this"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path / "rig")
    (rig.source / "folder" / "below").mkdir(parents=True)
    (rig.source / "folder" / "file").write_text("of today")
    (rig.source / "folder" / "below" / "other").write_text("other")
    rig.once()
    return rig


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    (outside / "below").mkdir(parents=True)
    (outside / "file").write_text(SECRET)
    (outside / "below" / "other").write_text(SECRET)
    return outside


def contents(root: Path) -> str:
    return "".join(path.read_text() for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink())


def is_untouched(outside: Path) -> bool:
    return sorted(str(path.relative_to(outside)) for path in outside.rglob("*")) == [
        "below",
        "below/other",
        "file",
    ] and ((outside / "file").read_text() == (outside / "below" / "other").read_text() == SECRET)


@pytest.mark.parametrize("where", ["versions", OLD, "folder", "folder/file"])
def test_a_link_in_the_versions_is_not_followed(rig: Rig, outside: Path, where: str) -> None:
    versions = rig.state / "versions"
    link = versions if where == "versions" else versions / OLD if where == OLD else versions / OLD / where
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside / "file" if where == "folder/file" else outside)
    out = rig.base / "out"

    done = rig.run("restore", "--at", BEFORE_OLD, "--to", str(out))
    listed = rig.run("versions", "folder/file", "folder")

    assert "Traceback" not in done.stderr
    assert done.code == {"versions": 4, OLD: 3}.get(where, 0), done
    assert SECRET not in (contents(out) if out.exists() else "")
    assert SECRET not in done.stdout + listed.stdout
    assert is_untouched(outside)


@pytest.mark.parametrize("where", ["folder", "folder/below", "folder/file"])
def test_a_link_in_the_mirror_is_not_followed(rig: Rig, outside: Path, where: str) -> None:
    place = rig.mirror / where
    place.rename(rig.base / "aside")
    place.symlink_to(outside / "file" if where == "folder/file" else outside)
    out = rig.base / "out"

    done = rig.run("restore", "--to", str(out))

    assert done.code in {0, 3}
    assert (out / where).is_symlink() or not (out / where).exists()
    assert SECRET not in contents(out)
    assert is_untouched(outside)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("where", ["folder", "folder/below", "folder/file"])
def test_a_link_in_the_target_is_not_followed(rig: Rig, outside: Path, where: str, *, overwrite: bool) -> None:
    out = rig.base / "out"
    (out / where).parent.mkdir(parents=True)
    (out / where).symlink_to(outside / "file" if where == "folder/file" else outside)

    done = rig.run("restore", "--to", str(out), *(["--overwrite"] if overwrite else []))

    assert done.code == (0 if overwrite else 3), done
    assert is_untouched(outside)
    if overwrite:
        assert (out / "folder" / "file").read_text() == "of today"
        assert [path for path in out.rglob("*.before-restore-*") if path.is_symlink()]
    else:
        assert (out / where).is_symlink()


def test_names_in_the_target_that_are_exchanged_lead_nowhere(rig: Rig, outside: Path) -> None:
    for number in range(300):
        (rig.source / "folder" / "below" / f"file {number}").write_text("content" * 1000)
    rig.once()
    out, lures = rig.base / "out", [rig.base / "lure", rig.base / "lure below"]
    (out / "folder" / "below").mkdir(parents=True)
    lures[0].symlink_to(outside)
    lures[1].symlink_to(outside / "below")
    chosen = [Flip(str(out), "folder", str(lures[0])), Flip(str(out / "folder"), "below", str(lures[1]))]
    flips = 0

    for seed in range(3):
        with flipping(chosen, seed) as flipper:
            done = rig.run("restore", "--to", str(out))
        flips += sum(flipper.flips)
        assert done.code in {0, 3}, done
        assert "Traceback" not in done.stderr

    assert flips > 100
    assert is_untouched(outside)
    assert rig.run("restore", "--to", str(out)).code == 0


def test_hostile_rows_of_the_index_lead_nowhere(rig: Rig, outside: Path) -> None:
    link = UnsupportedMetadata(stat.S_IFLNK | 0o777, 0, 0, 0, b"/etc/passwd")
    device = UnsupportedMetadata(stat.S_IFBLK | 0o666, 0, 0, 0, rdev=os.makedev(7, 0))
    hostile = {b"../../outside/link": link, b"a/b": link, b"..": link, b"device": device, b"plain": link}
    names = ["../../outside/evil", "below/../../x", "/etc/x"]
    with closing(sqlite3.connect(rig.state / "index.sqlite3")) as index:
        index.execute(
            "INSERT OR REPLACE INTO unheld VALUES (?, 0, ?)", (key_of(b"folder"), encode_unsupported(hostile))
        )
        for number, name in enumerate(names, 1):
            row = (os.fsencode(name), stat.S_IFREG | 0o644, 1, 0, 10**18, "", "replaced", False)
            index.execute(
                "INSERT INTO version VALUES (?, 1793527200, ?, ?)", (key_of(b"folder"), number, _encode([row]))
            )
        index.execute("INSERT INTO version VALUES (?, 1793527200, 99, ?)", (key_of(b""), json.dumps([["../x"], 1])))
        index.commit()
    out = rig.base / "out"

    done = rig.run("restore", "--to", str(out))

    assert "Traceback" not in done.stderr
    assert done.code == 3, done  # the device is not made, as `specials` is not "recreate"
    assert os.readlink(out / "folder" / "plain") == "/etc/passwd"
    assert {path.decode() for path in tree_of(out)} == {
        "",
        "folder",
        "folder/below",
        "folder/below/other",
        "folder/file",
        "folder/plain",
    }
    assert is_untouched(outside)
    assert sorted(each.name for each in rig.base.iterdir() if each.name.startswith("x")) == []


def test_a_row_about_another_file_is_not_believed(rig: Rig) -> None:
    place = rig.state / "versions" / OLD / "folder" / "file"
    place.parent.mkdir(parents=True)
    place.write_text("of October")
    row = (b"file", stat.S_IFREG | 0o644, 3, 10**18, 10**18 + 1, "sha256:00", "replaced", False)
    with closing(sqlite3.connect(rig.state / "index.sqlite3")) as index:
        index.execute("INSERT INTO version VALUES (?, 1793527200, 1, ?)", (key_of(b"folder"), _encode([row])))
        index.commit()
    out = rig.base / "out"

    done = rig.run("restore", "--at", BEFORE_OLD, "--to", str(out), "folder/file")

    assert done.code == 0, done
    assert (out / "folder" / "file").read_text() == "of October"
    assert "likely" in done.stdout
