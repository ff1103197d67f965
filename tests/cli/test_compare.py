"""`truecopy compare`: for people, for programs, and by its exit code."""

import contextlib
import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.faults.rig import ROOT, Done, Rig, environment


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
    assert "There is no pair 'music'. The pairs are: source." in done.stderr


def test_a_mirror_that_is_not_there_is_refused(rig: Rig) -> None:
    rig.mirror.rename(rig.base / "elsewhere")

    done = rig.run("compare")

    assert done.code == 4
    assert "does not exist" in done.stderr


def test_on_a_terminal_there_is_progress_that_leaves_the_lines_alone(rig: Rig) -> None:
    (rig.mirror / "file").write_text("Content")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        rig.command("compare"), cwd=ROOT, env=environment() | {"TERM": "xterm", "COLUMNS": "200"}, stdout=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal says that the other side is gone
            while piece := os.read(ours, 65536):
                shown += piece
    os.close(ours)

    assert process.returncode == 3
    assert b"content    source  file  (the source's checksum is sha256:" in shown
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h") == 1  # the cursor was hidden, and came back
    assert b" files" in shown


def test_progress_goes_to_standard_error_where_the_lines_go_to_a_file(rig: Rig) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        rig.command("compare"), cwd=ROOT, env=environment() | {"TERM": "xterm"}, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        out, _ = process.communicate()
    shown = os.read(ours, 65536)
    os.close(ours)

    assert out.decode().splitlines()[-1] == "# source: the mirror is as its source"
    assert b"\x1b" not in out
    assert b"\x1b[?25h" in shown
