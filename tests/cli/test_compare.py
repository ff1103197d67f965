"""`truecopy compare`: for people, for programs, and by its exit code."""

import json
from pathlib import Path

import pytest

from tests.faults.rig import Done, Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "file").write_text("content")
    rig.once()
    return rig


def said(done: Done) -> list[str]:
    """Give the lines but one: whose files cannot be given away by this user holds no owners."""
    return [line for line in done.stdout.splitlines() if "not compared" not in line]


def test_an_equal_mirror_is_said_to_be_so(rig: Rig) -> None:
    done = rig.run("compare")

    assert (done.code, said(done)) == (0, ["# source: the mirror is as its source"])


def test_a_difference_is_a_line_and_exit_code_3(rig: Rig) -> None:
    (rig.mirror / "file").write_text("Content")

    done = rig.run("compare")
    [line, *rest] = said(done)

    assert done.code == 3
    assert line.startswith("content    source  file  (the source's checksum is sha256:")
    assert rest[0].startswith("times")
    assert rest[-1] == "# source: 2 differences (1 content, 1 times)"


def test_what_is_in_the_mirror_only_is_told_and_makes_it_no_worse(rig: Rig) -> None:
    (rig.source / "file").rename(rig.source / "renamed")
    rig.once()

    done = rig.run("compare")

    assert done.code == 0
    assert "extra      source  file  (it is not in the source)" in done.stdout


def test_programs_get_a_json_object_a_line(rig: Rig) -> None:
    (rig.mirror / "file").unlink()

    done = rig.run("compare", "--json")
    [missing] = [each for each in map(json.loads, done.stdout.splitlines()) if each["path"] == "file"]

    assert missing == {"pair": "source", "what": "missing", "path": "file", "kind": "file", "detail": ""}


def test_a_pair_that_is_not_there_is_a_usage_error(rig: Rig) -> None:
    done = rig.run("compare", "--pair", "music")

    assert done.code == 2
    assert "there is no pair 'music'; the pairs are: source" in done.stderr


def test_a_mirror_that_is_not_there_is_refused(rig: Rig) -> None:
    rig.mirror.rename(rig.base / "elsewhere")

    done = rig.run("compare")

    assert done.code == 4
    assert "does not exist" in done.stderr
