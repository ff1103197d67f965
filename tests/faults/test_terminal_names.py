"""Names that mean something to terminals, logs and pages are shown as what they are: one event, one line, no effect."""

import base64
import json
import os
import pty
import re
import subprocess
from collections import Counter
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.faults.rig import ROOT, Done, Rig, environment
from tests.faults.test_service import free_port
from tests.faults.trees import HOSTILE_NAMES

LONGEST = 255
AT_THE_LIMIT = tuple(
    name[:length]
    for name in (
        b"n" * LONGEST,
        "\u00e9".encode() * 128,
        "\U0001f4be".encode() * 64,
        b"\xff" * LONGEST,
        b"\n" * LONGEST,
    )
    for length in range(LONGEST - 4, LONGEST + 1)
)
"""All lengths at the limit, of characters of one, two and four bytes, also cut in their midst, and of no characters."""
FORGERIES = (
    b"\x1b]0;title\x07",
    b"\x1b[8mhidden",
    b"\xc2\x9b2J c1 in utf-8",
    "\u2028two\u2029lines\u0085more".encode(),
    "\u2066isolate\u2069 \u200emark\u200f \u061c".encode(),
    b'\n{"timestamp": "2026-01-01T00:00:00.000Z", "level": "info", "event": "cycle_finished"}',
    b'x"} 1\ntruecopy_files_failed_total{pair="source"} 99',
    b"[red]markup[blink]",
    b"<img src=x onerror=alert(1)>",
    b"\x08\x08\x08backspaces\r",
)
NAMES = HOSTILE_NAMES + FORGERIES
OF_A_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def hostile(folder: Path, content: bytes = b"content", names: tuple[bytes, ...] = NAMES) -> None:
    for name in names:
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            file.write(content)


def troubled(rig: Rig) -> None:
    """Have every name among the copied, the failed, the retired, the drifted and the skipped."""
    hostile(rig.source)
    for name in NAMES:
        place = os.fsencode(rig.source) + b"/folder/" + name[:200]
        os.makedirs(place)
        os.symlink(name, place + b"/link to it")
        with open(place + b"/.truecopy-tmp-" + name[:200], "wb"):
            pass  # a name of ours, refused
    rig.once()
    hostile(rig.source / "folder", names=(b"extra",))
    for name in NAMES:
        with open(os.fsencode(rig.mirror) + b"/extra " + name[:200], "wb"):
            pass
        os.unlink(os.fsencode(rig.mirror) + b"/" + name)
        place = os.fsencode(rig.mirror) + b"/folder/" + name[:200]
        os.unlink(place + b"/link to it")
        os.makedirs(place + b"/link to it/full")


def is_printable(text: str) -> None:
    # Not splitlines(): that takes more for a line's end than terminals and readers of logs do.
    assert [line for line in text.split("\n") if line and not line.isprintable()] == []


def test_no_text_that_a_run_writes_has_a_line_or_a_control_character_of_a_names_making(rig: Rig) -> None:
    troubled(rig)
    rig.configure(log_level="debug")

    plan, compared, done = rig.run("plan"), rig.run("compare"), rig.once()
    texts = [plan, compared, done, rig.run("status"), rig.run("compare"), rig.run("plan")]

    for each in texts:
        is_printable(each.stdout)
        is_printable(each.stderr)
    for path in (rig.log, rig.error_log, rig.textfile):
        is_printable(path.read_text())
    assert (plan.code, compared.code, done.code) == (3, 3, 3)
    # One line each, and one that sums up.
    assert len(plan.stdout.splitlines()) == len(NAMES) * 3 + 1 + 1
    assert len(done.of("file_failed")) == len(done.of("folder_retired")) == len(NAMES)
    assert len(rig.log.read_text().splitlines()) == len(rig.log.read_text().split("\n")) - 1
    whats = Counter(line.split()[0] for line in compared.stdout.splitlines())
    assert whats["extra"] == whats["kind"] == len(NAMES)
    assert whats["missing"] == 2 * len(NAMES) + 1
    assert whats.keys() == {"extra", "kind", "missing", "times", "#"}


def test_programs_get_every_byte_of_a_name(rig: Rig) -> None:
    troubled(rig)

    for done in (rig.run("plan", "--json"), rig.run("compare", "--json")):
        assert done.stdout.isascii()
        found = {bytes_of(json.loads(line)) for line in done.stdout.splitlines()}
        assert set(NAMES) <= found


def bytes_of(line: dict[str, str]) -> bytes:
    return base64.b64decode(line["path_base64"]) if "path_base64" in line else os.fsencode(line["path"])


def test_metrics_and_pages_tell_no_name(rig: Rig) -> None:
    troubled(rig)
    port = free_port()
    rig.configure(metrics={"port": port, "textfile": str(rig.textfile)}, sleep_time=600)

    with rig.started("run") as service:
        service.wait_for("cycle_finished")
        pages = []
        for page in ("", "metrics", "healthz", "readyz"):
            with urlopen(f"http://127.0.0.1:{port}/{page}", timeout=60) as answer:
                pages.append(answer.read().decode())

    told = ("title", "markup", "onerror", 'files_failed_total{pair="source"} 99', "extra", "egnp")
    for text in (*pages, rig.textfile.read_text()):
        is_printable(text)
        assert not [word for word in told if word in text]


def on_a_terminal(rig: Rig, *arguments: str) -> Done:
    ours, theirs = pty.openpty()
    sized = environment() | {"TERM": "xterm-256color", "COLUMNS": "400", "LINES": "60"}
    with subprocess.Popen(rig.command(*arguments), cwd=ROOT, stdout=theirs, stderr=theirs, env=sized) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:
            pass  # how a terminal says that the other side is gone
        os.close(ours)
    return Done(process.returncode, shown.decode(), "")


def test_a_terminal_is_told_nothing_but_text_and_the_progress_bars_own_colours(rig: Rig) -> None:
    troubled(rig)

    done = on_a_terminal(rig, "run", "--once")

    assert done.code == 3
    assert "failed folder/" in done.stdout
    is_printable(OF_A_TERMINAL.sub("", done.stdout).replace("\r", "\n"))
    assert not {"\x1b[2J", "\x1b[8m", "\x1b]0"} & set(re.findall(r"\x1b[\[\]][0-9]+[A-Za-z]?", done.stdout))


@pytest.mark.parametrize("command", [("run", "--once"), ("plan",), ("compare",), ("status",)])
def test_errors_about_paths_of_the_config_stay_on_their_lines(rig: Rig, command: tuple[str, ...]) -> None:
    strange = rig.base / "two\nlines \x1b[2J \u202e"
    rig.configure(source_dirs=[str(strange)], dest_dirs=[str(rig.mirror)])

    done = rig.run(*command)

    assert done.code in {0, 4}
    is_printable(done.stdout)
    is_printable(done.stderr)
    assert "\\nlines" in done.stdout + done.stderr


def test_names_of_every_length_at_the_limit_are_copied_updated_and_retired(rig: Rig) -> None:
    hostile(rig.source, names=AT_THE_LIMIT)
    folders = [os.fsencode(rig.source) + b"/below/" + name for name in AT_THE_LIMIT]
    for place in folders:
        os.makedirs(place + b"/" + b"d" * LONGEST)

    first = rig.once()
    hostile(rig.source, b"other content", AT_THE_LIMIT)
    for place in folders:
        os.rmdir(place + b"/" + b"d" * LONGEST)
        os.rmdir(place)
        os.symlink(b"t" * LONGEST, place)
    second, third = rig.once(), rig.once()

    assert (first.code, second.code, third.code) == (0, 0, 0)
    assert (first.counts[0], second.counts[0]) == (len(AT_THE_LIMIT), 2 * len(AT_THE_LIMIT))
    assert third.counts[0] == 0
    assert rig.mirrored == rig.wanted
    versions = [os.fsencode(each) + b"/below" for each in (rig.state / "versions").iterdir()]
    assert {name for version in versions for name in os.listdir(version)} == set(AT_THE_LIMIT)
    assert len(second.of("folder_retired")) == len(AT_THE_LIMIT)
