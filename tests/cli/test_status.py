"""`truecopy status`: the last cycle of each pair, for people and for programs."""

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import sqlite3
import struct
import subprocess
import termios
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults.crowded import FEW
from tests.faults.rig import ROOT, UNPRIVILEGED, Done, Rig, environment
from tests.faults.tampering import mounted, remount
from tests.faults.trees import remove
from tests.index_rows import make_older
from tests.walls import needs_landlock


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "file").write_text("content")
    return rig


def document(done: Done) -> dict[str, Any]:
    assert done.code == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_before_the_first_cycle_it_says_so_and_makes_nothing(rig: Rig) -> None:
    done = rig.run("status")
    told = document(rig.run("status", "--json"))

    assert "source: no cycle yet" in done.stdout
    assert told["pairs"][0]["result"] is None
    assert told["pairs"][0]["last_success"] is None
    assert told["service"]["alive"] is False
    assert list(rig.mirror.iterdir()) == []


def test_after_a_cycle_it_tells_counts_and_times(rig: Rig) -> None:
    run = rig.once()

    (pair,) = document(rig.run("status", "--json"))["pairs"]

    assert (pair["pair"], pair["source"], pair["mirror"]) == ("source", str(rig.source), str(rig.mirror))
    assert (pair["result"], pair["copied"], pair["bytes_copied"], pair["failed"]) == ("success", 1, 7, 0)
    assert pair["last_success"] == pair["last_attempt"]
    assert pair["last_success"][:16] == run.the("pair_finished")["timestamp"][:16]


def test_it_tells_what_the_mirror_can_hold_once_that_is_known(rig: Rig) -> None:
    (before,) = document(rig.run("status", "--json"))["pairs"]
    run = rig.once()
    (pair,) = document(rig.run("status", "--json"))["pairs"]

    assert before["file_system"] is None
    assert pair["file_system"]["file_system"] == run.the("mirror_probed")["file_system"]
    assert pair["file_system"]["hard_links"] is True
    assert f"    the mirror ({pair['file_system']['file_system']}) " in rig.run("status").stdout


@pytest.mark.needs_root
def test_it_names_what_is_mounted_in_the_source_and_left_out(rig: Rig) -> None:
    with mounted("tmpfs", rig.source / "music", "-t", "tmpfs"):
        rig.configure(cross_mounts=False)
        (pair,) = document(rig.run("status", "--json"))["pairs"]
        text = rig.run("status").stdout
        rig.configure(cross_mounts=True)
        (taken_in,) = document(rig.run("status", "--json"))["pairs"]

    assert pair["left_out"] == [{"path": "music", "file_system": "tmpfs"}]
    assert "left out of the source: music (tmpfs is mounted there; see cross_mounts)" in text
    assert taken_in["left_out"] == []


def test_after_a_partial_cycle_the_last_success_stays(rig: Rig) -> None:
    rig.once()
    (before,) = document(rig.run("status", "--json"))["pairs"]
    (rig.source / ".truecopy").write_text("reserved")
    rig.once()

    (pair,) = document(rig.run("status", "--json"))["pairs"]
    text = rig.run("status").stdout

    assert (pair["result"], pair["failed"], pair["last_success"]) == ("partial", 1, before["last_success"])
    assert "source: partial " in text
    assert "1 failed" in text


def test_a_missing_mirror_is_no_error(rig: Rig) -> None:
    remove(rig.mirror)

    done = rig.run("status")

    assert done.code == 0
    assert "no cycle yet" in done.stdout
    assert not rig.mirror.exists()


def test_a_torn_history_is_told_and_left_as_it_is(rig: Rig) -> None:
    rig.once()
    (rig.state / "history.sqlite3").write_bytes(b"no database at all")

    (pair,) = document(rig.run("status", "--json"))["pairs"]
    text = rig.run("status").stdout

    assert pair["trouble"]
    assert "its history cannot be read" in text
    assert (rig.state / "history.sqlite3").read_bytes() == b"no database at all"


def test_while_the_service_waits_it_is_alive_and_tells_when_the_next_cycle_is_due(rig: Rig) -> None:
    rig.configure(sleep_time=600)
    with rig.started("run") as service:
        service.wait_for("cycle_finished")
        told = document(rig.run("status", "--json"))
        service.end(signal.SIGTERM)
    later = document(rig.run("status", "--json"))

    assert told["service"]["alive"] is True
    assert told["service"]["next_due"]
    assert (later["service"]["alive"], later["service"]["next_due"]) == (False, None)


def test_every_pair_is_told(rig: Rig) -> None:
    other = rig.base / "other"
    other.mkdir()
    pairs = [
        {"name": "one", "source": str(rig.source), "dest": str(rig.mirror)},
        {"name": "two", "source": str(rig.base / "missing"), "dest": str(other)},
    ]
    rig.configure(pairs=pairs, state_dir=str(rig.base / "state"))
    rig.once()

    told = document(rig.run("status", "--json"))

    assert [(pair["pair"], pair["result"]) for pair in told["pairs"]] == [("one", "success"), ("two", "refused")]


def test_a_broken_config_is_2(rig: Rig) -> None:
    rig.config.write_text("{")

    done = rig.run("status")

    assert done.code == 2
    assert done.stderr.startswith("error: ")


@needs_landlock
def test_the_wall_around_the_work_is_told_with_what_nobody_behind_it_can_do(rig: Rig) -> None:
    said, told = rig.run("status").stdout, json.loads(rig.run("status", "--json").stdout)["sandbox"]

    assert told["landlock"] == "auto"
    assert told["abi"] >= 2
    assert "write anything but the mirror and the state of the pair" in told["cannot"]
    assert not told["missing"]
    assert f"(Landlock, version {told['abi']})" in said


def test_a_wall_that_is_off_is_told(rig: Rig) -> None:
    rig.configure(landlock="off")
    said, told = rig.run("status").stdout, json.loads(rig.run("status", "--json").stdout)["sandbox"]

    assert "sandbox: none, landlock is off\n" in said
    assert told == {"landlock": "off", "abi": None, "cannot": [], "missing": "landlock is off"}


@pytest.mark.needs_tool("strace")
def test_a_system_without_it_is_told(rig: Rig) -> None:
    fault = ["strace", "-qq", "-o", str(rig.base / "log"), "-e", "inject=landlock_create_ruleset:error=ENOSYS"]

    assert "sandbox: none, this system does not offer Landlock: Function not" in rig.run("status", prefix=fault).stdout


def test_it_tells_how_much_the_mirror_holds_and_what_is_free(rig: Rig) -> None:
    (rig.source / "folder").mkdir()
    (rig.source / "folder/large").write_bytes(b"x" * 2_500_000)
    rig.once()
    (rig.source / "file").write_text("other content")
    rig.once()

    (pair,) = document(rig.run("status", "--json"))["pairs"]
    text = rig.run("status").stdout
    free = os.statvfs(rig.mirror)

    assert (pair["entries"], pair["bytes"]) == (2, 2_500_013)
    assert pair["free_bytes"] == pytest.approx(free.f_bavail * free.f_frsize, rel=0.2)
    assert "    mirror: 2 files, 2.5 MB; " in text
    assert " free on its disk" in text


@pytest.mark.parametrize("workers", [1, 2])
def test_a_huge_folder_is_counted_in_all_its_parts(rig: Rig, workers: int) -> None:
    huge = rig.source / "huge"
    huge.mkdir()
    for number in range(7 * FEW):
        (huge / str(number)).write_text("x")
    rig = Rig(rig.base, {"workers": workers, "workers_from": 0}, program="tests.faults.crowded")
    rig.once()

    (pair,) = document(rig.run("status", "--json"))["pairs"]

    assert (pair["entries"], pair["bytes"]) == (7 * FEW + 1, 7 * FEW + 7)


def test_the_bytes_of_an_index_from_before_they_were_kept_are_not_known(rig: Rig) -> None:
    rig.once()
    make_older(rig.state / "index.sqlite3", 4, sizes=False)
    (before,) = document(rig.run("status", "--json"))["pairs"]
    (rig.source / "file").write_text("other content")

    assert rig.once().code == 0
    (after,) = document(rig.run("status", "--json"))["pairs"]

    assert (before["entries"], before["bytes"]) == (1, None)
    assert (after["entries"], after["bytes"]) == (1, 13)


def test_check_is_the_code_of_the_worst_pair(rig: Rig) -> None:
    good, bad = rig.base / "good", rig.base / "bad"
    pairs = []
    for folder in (good, bad):
        for side in ("source", "mirror"):
            (folder / side).mkdir(parents=True)
        (folder / "source/file").touch()
        pairs.append({"name": folder.name, "source": str(folder / "source"), "dest": str(folder / "mirror")})
    rig.configure(pairs=pairs)
    never = rig.run("status", "--check").code
    rig.once()
    fine = rig.run("status", "--check").code
    (bad / "source/.truecopy").touch()
    rig.once()

    assert (never, fine) == (1, 0)
    assert rig.run("status", "--check").code == 3
    assert rig.run("status", "--check", "--pair", "good").code == 0
    assert rig.run("status").code == 0


def test_a_success_that_is_too_long_ago_is_overdue(rig: Rig) -> None:
    rig.configure(sleep_time=3600)
    rig.once()

    def status_after(seconds: float) -> tuple[int, str]:
        with closing(sqlite3.connect(rig.state / "history.sqlite3")) as history, history:
            history.execute("UPDATE last_cycle SET last_success_timestamp_seconds = ?", (time.time() - seconds,))
        mirror_id = json.loads((rig.state / "identity.json").read_text())["mirror_id"]
        memory = Path(os.environ["XDG_STATE_HOME"], "truecopy/pairs/.truecopy", f"{mirror_id}.json")
        memory.write_text(json.dumps(json.loads(memory.read_text()) | {"last_success": time.time() - seconds}))
        done = rig.run("status", "--check", "--json")
        return done.code, json.loads(done.stdout)["pairs"][0]["verdict"]

    assert status_after(2 * 3600) == (0, "success")
    assert status_after(2 * 3600 + 1000) == (1, "overdue")
    rig.configure(sleep_time=3600, run_enabled="N")
    assert status_after(2 * 3600 + 1000) == (0, "success")


def test_with_a_broken_config_the_last_good_one_is_shown_after_the_faults(rig: Rig) -> None:
    rig.once()
    rig.config.write_text('{"run_enabled": "Y", "sorce_dirs": []}')

    text, told = rig.run("status"), rig.run("status", "--json")

    assert (text.code, told.code) == (2, 2)
    assert "sorce_dirs: unknown key" in text.stderr
    assert "The last good configuration was read " in text.stdout
    assert "source: success " in text.stdout
    assert json.loads(told.stdout)["pairs"][0]["result"] == "success"
    assert "sorce_dirs" in json.loads(told.stdout)["config_error"]["faults"][0]


def test_with_a_broken_config_of_which_nothing_is_known_there_are_only_the_faults(rig: Rig) -> None:
    rig.config.write_text("{")

    done = rig.run("status", "--json")

    assert (done.code, done.stdout) == (2, "")


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
@pytest.mark.parametrize("terminal", ["xterm-256color", "dumb"])
def test_on_a_terminal_it_fits(rig: Rig, columns: int, terminal: str) -> None:
    rig.once()
    (rig.source / ".truecopy").touch()
    rig.once()

    shown = on_a_terminal(rig, columns, TERM=terminal)

    assert ("Result" in shown) is (terminal != "dumb")
    assert "partial" in shown
    if terminal != "dumb":
        assert "\x1b[" in shown
        assert max(len(line) for line in without_colours(shown)) <= columns
        assert "\x1b[3" not in on_a_terminal(rig, columns, TERM=terminal, NO_COLOR="1")


def without_colours(shown: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()


def on_a_terminal(rig: Rig, columns: int, **variables: str) -> str:
    """Give what `status` writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    plain = {name: value for name, value in environment().items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    with subprocess.Popen(
        rig.command("status"), cwd=ROOT, env=plain | variables, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal says that the other side is gone
            while piece := os.read(ours, 65536):
                shown += piece
        os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


@pytest.mark.needs_root
def test_it_tells_why_and_which_names_failed_first(rig: Rig) -> None:
    for number in range(8):
        (rig.source / f"secret {number}").write_text("secret")
        (rig.source / f"secret {number}").chmod(0o600)
        os.chown(rig.source / f"secret {number}", 1, 1)
    rig.once(prefix=UNPRIVILEGED)

    (pair,) = document(rig.run("status", "--json"))["pairs"]
    text = rig.run("status").stdout

    assert (pair["verdict"], pair["failed_by"]) == ("partial", {"permission": 8})
    assert len(pair["failing"]) == 5
    assert "    8 failed: permission 8\n        secret 0: permission: " in text
    assert "        and 3 more, see the log\n" in text


def test_a_refused_pair_that_never_succeeded_says_why(rig: Rig) -> None:
    remove(rig.source)
    rig.once()

    done = rig.run("status", "--check", "--json")
    (pair,) = json.loads(done.stdout)["pairs"]
    text = rig.run("status").stdout

    assert (done.code, pair["verdict"], pair["reason"], pair["last_success"]) == (4, "refused", "source_missing", None)
    assert "source: refused " in text
    assert "    why: source_missing: " in text
    assert "no cycle yet" not in text


# A history that cannot be written -------------------------------------------------------------------------------------


@pytest.mark.needs_root
@pytest.mark.parametrize("place", ["a place outside", "no place outside"])
def test_a_mirror_that_is_read_only_by_now_is_told_as_refused(
    rig: Rig, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place != "a place outside":
        (rig.base / "taken").write_text("no folder")
        monkeypatch.setenv("XDG_STATE_HOME", str(rig.base / "taken"))
    with mounted("tmpfs", rig.mirror, "-t", "tmpfs"):
        assert rig.once().code == 0
        assert rig.run("status", "--check").code == 0
        remount(rig.mirror, "ro")
        refused = rig.once()
        checked = rig.run("status", "--check")
        (pair,) = document(rig.run("status", "--json"))["pairs"]
        remount(rig.mirror, "rw")
        again = rig.once()
        healed = rig.run("status", "--check")

    assert (refused.code, checked.code) == (4, 4)
    assert "\nsource: refused" in checked.stdout
    assert "the mirror is on a read-only file system" in checked.stdout
    assert (pair["verdict"], pair["mirror_state"]) == ("refused", "read_only")
    if place == "a place outside":
        assert (pair["result"], pair["reason"]) == ("refused", "mirror_read_only")
    assert (again.code, healed.code) == (0, 0)


@pytest.mark.needs_root
def test_a_cycle_that_failed_with_its_history_on_a_full_disk_is_not_told_as_a_success(rig: Rig) -> None:
    with mounted("tmpfs", rig.mirror, "-t", "tmpfs", "-o", "size=4m"):
        assert rig.once().code == 0
        fill(rig.mirror / ".truecopy/filling")
        (rig.source / "large").write_bytes(os.urandom(1 << 20))
        failed = rig.once()
        checked = rig.run("status", "--check")
        (pair,) = document(rig.run("status", "--json"))["pairs"]

    assert any("history" in line["message"] for line in failed.of("output_failed")), "it was written, after all"
    assert failed.code == checked.code != 0
    assert (pair["result"] == "success", pair["verdict"] == "success") == (False, False)
    assert pair["failing"] or pair["error"]


def fill(path: Path) -> None:
    """Take all the room that a file system has."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 12)):
            pass
