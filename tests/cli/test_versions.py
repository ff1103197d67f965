"""`truecopy versions`: what is kept of a file or in a folder, for people and for programs."""

import json
from pathlib import Path

import pytest

from tests.cli.test_restore import BEFORE_OLD, OLD, OLDER, keep, record
from tests.faults.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "folder").mkdir()
    (rig.source / "folder" / "file").write_text("of today")
    (rig.source / "top").write_text("top")
    rig.once()
    return rig


def test_the_contents_of_a_file_are_listed_the_newest_first(rig: Rig) -> None:
    keep(rig, OLD, "folder/file", "of October")
    keep(rig, OLDER, "folder/file", "of September!")
    record(rig, OLD, "folder/file", since_ns=1_790_000_000 * 10**9, checksum="sha256:1234")

    done = rig.run("versions", "folder/file")
    now, october, september = done.stdout.splitlines()

    assert done.code == 0
    assert now.startswith("mirror ")
    assert "8 B; sha256:" in now
    assert october.startswith(OLD)
    assert "Monday 2026-09-21 14:13:20 +0000 .. Sunday 2026-11-01 10:00:00 +0000" in october
    assert "(10 B; sha256:1234; the source got a newer one)  --at 2026-09-21T14:13:20+00:00" in october
    assert september.startswith(OLDER)
    assert "unknown .. Thursday 2026-10-01 10:00:00 +0000  (13 B; no checksum is recorded)" in september


def test_each_time_that_is_given_restores_its_content(rig: Rig) -> None:
    keep(rig, OLD, "folder/file", "of October")
    keep(rig, OLDER, "folder/file", "of September")

    lines = [json.loads(line) for line in rig.run("versions", "--json", "folder/file").stdout.splitlines()]

    assert [each["version"] for each in lines] == [None, OLD, OLDER]
    assert [each["file"] for each in lines[1:]] == [
        f".truecopy/versions/{moment}/folder/file" for moment in (OLD, OLDER)
    ]
    for number, each in enumerate(lines):
        out = rig.base / f"out {number}"
        at = ["--at", each["restore_at"]] if each["version"] else []
        assert rig.run("restore", *at, "--to", str(out), "folder/file").code == 0
        assert (out / "folder" / "file").read_bytes() == (rig.mirror / each["file"]).read_bytes()


def test_of_a_folder_the_entries_with_versions_are_listed(rig: Rig) -> None:
    keep(rig, OLD, "folder/file", "of October")
    keep(rig, OLDER, "folder/file", "of September")
    keep(rig, OLD, "folder/gone", "removed")

    root, folder = rig.run("versions", "."), rig.run("versions", "--json", "folder")

    assert root.stdout.startswith("folder with versions   source  folder  (the last until")
    found = {
        each["path"]: (each["versions"], each["in_mirror"]) for each in map(json.loads, folder.stdout.splitlines())
    }
    assert found == {"folder/file": (2, True), "folder/gone": (1, False)}


def test_nothing_kept_is_said_and_no_error(rig: Rig) -> None:
    nothing, folder = rig.run("versions", "no/such"), rig.run("versions", "folder")

    assert (nothing.code, nothing.stdout) == (0, "")
    assert "nothing is kept of it" in nothing.stderr
    assert "no versions are kept in it" in folder.stderr


def test_a_mirror_that_is_missing_is_refused(rig: Rig) -> None:
    rig.mirror.rename(rig.base / "elsewhere")

    done = rig.run("versions", "top")

    assert done.code == 4
    assert "does not exist" in done.stderr


def test_a_file_is_found_with_versions_restore_and_nothing_else(rig: Rig) -> None:
    keep(rig, OLD, "folder/file", "of October")
    (rig.source / "folder" / "file").write_text("encrypted")

    listed = rig.run("versions", str(rig.source / "folder" / "file"))
    done = rig.run("restore", "--at", BEFORE_OLD, "--in-place", "--overwrite", str(rig.source / "folder" / "file"))

    assert OLD in listed.stdout
    assert done.code == 0
    assert (rig.source / "folder" / "file").read_text() == "of October"
