"""`truecopy orphans`, with its metric and its line in `status`."""

import json
import os
from pathlib import Path

import pytest

from tests.faults.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "folder" / "deep").mkdir(parents=True)
    (rig.source / "folder" / "deep" / "one").write_text("12345")
    (rig.source / "folder" / "two").write_text("123")
    (rig.source / "stays").touch()
    rig.once()
    return rig


def test_what_left_is_listed_with_sums_and_counted(rig: Rig) -> None:
    assert rig.run("orphans").stdout == "# source: nothing left the source\n"
    (rig.source / "folder" / "two").unlink()
    (rig.source / "folder" / "deep" / "one").unlink()
    (rig.source / "folder" / "deep").rmdir()
    [before, *_] = rig.run("orphans").stdout.splitlines()
    assert before.startswith("unknown ")
    rig.once()
    done = rig.run("orphans")
    *lines, total = done.stdout.splitlines()

    assert done.code == 0
    assert total == "# source: 2 entries left the source: 2 files, 8 B"
    assert [line.partition("  source  ")[2].partition(",")[0] for line in lines] == [
        "folder/deep  (folder with 1 file",
        "folder/two  (file",
    ]
    assert "sha256:" in lines[1]
    assert rig.metric("orphans_files", pair="source") == 2
    assert rig.metric("orphans_bytes", pair="source") == 8
    assert "    left the source: 2 files, 8 B (truecopy orphans lists them)" in rig.run("status").stdout.splitlines()
    [pair] = json.loads(rig.run("status", "--json").stdout)["pairs"]
    assert (pair["orphans_files"], pair["orphans_bytes"]) == (2, 8)


def test_each_is_one_object_of_json(rig: Rig) -> None:
    name = "a\udcff\n"
    (rig.source / "folder" / name).write_text("x")
    rig.once()
    (rig.source / "folder" / name).unlink()
    rig.once()

    [each] = map(json.loads, rig.run("orphans", "--json").stdout.splitlines())

    assert {key: each[key] for key in ("pair", "path", "path_base64", "kind", "files", "bytes")} == {
        "pair": "source",
        "path": "folder/a\\xff\\n",
        "path_base64": "Zm9sZGVyL2H/Cg==",
        "kind": "file",
        "files": 1,
        "bytes": 1,
    }
    assert each["checksum"].startswith("sha256:")
    assert each["since"].startswith("20")


def test_the_figure_stays_until_it_changes(rig: Rig) -> None:
    (rig.source / "folder" / "two").unlink()
    rig.once()
    rig.once()
    assert rig.metric("orphans_files", pair="source") == 1
    (rig.source / "folder" / "two").write_text("it is back")
    rig.once()

    assert rig.metric("orphans_files", pair="source") == 0
    assert "left the source" not in rig.run("status").stdout


def test_a_pair_that_cannot_be_opened_is_refused(rig: Rig) -> None:
    rig.source.rename(rig.source.with_name("elsewhere"))

    done = rig.run("orphans")

    assert done.code == 4
    assert "does not exist" in done.stderr


def test_a_copy_of_what_left_is_compared_with_its_checksum_when_it_is_restored(rig: Rig) -> None:
    (rig.source / "folder" / "two").unlink()
    (rig.source / "folder" / "deep" / "one").unlink()
    rig.once()
    assert "sha256:" in rig.run("versions", "folder/two").stdout
    copy = rig.mirror / "folder" / "two"
    before = copy.stat()
    copy.write_text("12?")
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))

    good = rig.run("restore", "--to", str(rig.base / "good"), "folder/deep/one")
    rotten = rig.run("restore", "--to", str(rig.base / "rotten"), "folder/two")

    assert (good.code, rotten.code) == (0, 3)
    assert (rig.base / "good/folder/deep/one").read_text() == "12345"
    assert "rotten" in rotten.stdout + rotten.stderr


def test_explain_says_what_becomes_of_it(rig: Rig) -> None:
    (rig.source / "folder" / "two").unlink()
    rig.once()
    assert "stays as it is in the mirror" in rig.run("explain", "folder/two").stdout
    rig.configure(on_source_delete="retire", retire_after="30 days")
    assert (
        "it left the source, and is retired once it is missing for 30 days" in rig.run("explain", "folder/two").stdout
    )
    rig.once()  # a complete scan that counts
    rig.configure(on_source_delete="retire", retire_after="0 hours")
    assert "retire (it left the source " in rig.run("explain", "folder/two").stdout
