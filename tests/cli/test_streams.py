"""Standard streams that are closed, full, gone or slow: work is done all the same, and nothing ends in a traceback."""

import fcntl
import os
import shlex
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.faults.rig import PATIENCE, ROOT, Done, Rig, environment, started, until
from tests.faults.trees import tree_of

PRINTING = [
    "plan",
    "compare",
    "status",
    "status --json",
    "config check",
    "config show",
    "config schema",
    "completion bash",
    "help run",
    "--help",
    "-V",
]
"""Commands of which nobody has anything if their output is lost."""
OTHERS = ["run --once", "healthcheck", "status --check"]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.source / "file").write_text("content")
    return rig


def redirected(rig: Rig, command: str, redirection: str) -> Done:
    """Run a command in a shell; its exit code is its own, not that of a reader."""
    errors, code = rig.base / "errors", rig.base / "code"
    if {*redirection.split()} <= {">/dev/full", "2>/dev/full"}:
        output = Path("/dev/full") if ">/dev/full" in redirection.split() else rig.base / "output"
        return written(rig, command, output, Path("/dev/full") if "2>/dev/full" in redirection else errors)
    program = shlex.join(rig.command(*command.split()))
    script = f"{{ {program}; echo $? >&9; }} 9>{shlex.quote(str(code))} {redirection}"
    with errors.open("wb") as stderr:
        done = subprocess.run(
            ["bash", "-c", script], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=stderr, check=False
        )
    return checked(int(code.read_text()), done.stdout.decode(), errors.read_text())


def written(rig: Rig, command: str, output: Path, errors: Path) -> Done:
    """Run a command whose streams are open, which is all that the start of an interpreter looks at."""
    with (
        output.open("wb") as stdout,
        errors.open("wb") as stderr,
        started(rig.command(*command.split()), environment(), (stdout, stderr), group=False) as process,
    ):
        code = process.wait(PATIENCE)
    return checked(code, *("" if each == Path("/dev/full") else each.read_text() for each in (output, errors)))


def checked(code: int, told: str, said: str) -> Done:
    assert "Traceback" not in said
    assert "Exception" not in said
    return Done(code, told, said)


@pytest.mark.parametrize("command", PRINTING)
def test_what_cannot_be_printed_is_1_and_one_sentence(rig: Rig, command: str) -> None:
    closed, full = redirected(rig, command, ">&-"), redirected(rig, command, ">/dev/full")

    assert (closed.code, closed.stderr) == (1, "error: standard output cannot be written: it is closed\n")
    assert (full.code, full.stderr) == (1, "error: standard output cannot be written: No space left on device\n")


@pytest.mark.parametrize("command", PRINTING)
def test_a_reader_that_went_away_is_1_without_a_word(rig: Rig, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    with open(writer, "wb") as stdout, (rig.base / "errors").open("wb") as stderr:
        process = started(rig.command(*command.split()), environment(), (stdout, stderr), group=False)
        code = process.wait(PATIENCE)

    assert (code, (rig.base / "errors").read_bytes()) == (1, b"")


NOT_NEEDED = ["<&-", "2>&-", "2>/dev/full", "<&- 2>&-"]


@pytest.mark.parametrize(
    ("redirection", "commands"),
    [(each, PRINTING[number :: len(NOT_NEEDED)]) for number, each in enumerate(NOT_NEEDED)]
    + [pytest.param(each, PRINTING, marks=pytest.mark.slow) for each in NOT_NEEDED],
)
def test_standard_input_and_error_are_not_needed(rig: Rig, redirection: str, commands: list[str]) -> None:
    codes = [redirected(rig, command, redirection).code for command in ("run --once", *commands)]

    assert codes == [0] * len(codes)


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", "<&- >&- 2>&-", ">/dev/full 2>/dev/full", "| head -0"])
def test_a_backup_does_not_depend_on_its_output(rig: Rig, redirection: str) -> None:
    for number in range(20):
        (rig.source / f"file {number}").write_text(f"content {number}")

    first, second = redirected(rig, "run --once", redirection), redirected(rig, "run --once", redirection)

    assert (first.code, second.code, first.stderr) == (0, 0, "")
    # A number that was free is not given to a file of the mirror, into which something would be printed then.
    assert {name: entry for name, entry in tree_of(rig.mirror).items() if not name.startswith(b".truecopy")} == tree_of(
        rig.source
    )
    assert redirected(rig, "compare", "").code == 0


def test_a_backup_whose_errors_cannot_be_printed_has_the_exit_code_of_its_work(rig: Rig) -> None:
    rig.source.joinpath("file").unlink()
    rig.source.rmdir()

    assert redirected(rig, "run --once", "<&- >&- 2>&-").code == 4
    rig.config.write_text("{")
    assert redirected(rig, "run --once", "<&- >&- 2>&-").code == 2


def test_full_standard_output_is_told_in_the_log_file(rig: Rig) -> None:
    redirected(rig, "run --once", ">/dev/full")
    failures = rig.metric("output_failures_total", output="stdout")
    assert failures >= 1

    redirected(rig, "run --once", ">&-")
    assert rig.metric("output_failures_total", output="stdout") == failures, "a closed output is not asked for"


def test_workers_start_without_standard_streams(rig: Rig) -> None:
    rig.configure(workers=2, workers_from=0)

    done = redirected(rig, "run --once", "<&- >&- 2>&-")

    assert done.code == 0
    assert (rig.mirror / "file").read_text() == "content"


@pytest.mark.parametrize("command", OTHERS)
def test_an_exit_code_that_is_an_answer_stays_it(rig: Rig, command: str) -> None:
    rig.once()

    expected = redirected(rig, command, "").code

    assert {redirected(rig, command, how).code for how in (">&-", ">/dev/full", "<&- >&- 2>&-")} == {expected}


def waiting_in(pipe: int) -> int:
    """Count the bytes that can be read from a pipe."""
    count = fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4)
    return int.from_bytes(count, sys.byteorder)


def test_a_pipe_that_does_not_block_is_waited_for(rig: Rig) -> None:
    """Another program that shares a terminal or pipe may have made it so; nothing that does not fit at once is lost."""
    for number in range(3000):
        (rig.source / f"a rather long name of a file, so that the pipe is soon full: {number}").touch()
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
    with subprocess.Popen(
        rig.command("plan"), cwd=ROOT, env=environment(), stdout=writer, stderr=subprocess.PIPE
    ) as process:
        os.close(writer)
        until(lambda: waiting_in(reader) > 50_000)
        time.sleep(0.5)
        told = b""
        while piece := os.read(reader, 65536):
            told += piece
        assert process.stderr is not None
        errors = process.stderr.read()
    os.close(reader)

    assert (process.returncode, errors) == (0, b"")
    assert told.count(b"\n") == 3002


def test_a_name_that_the_encoding_lacks_is_shown_escaped(rig: Rig) -> None:
    (rig.source / "☃").touch()

    done = subprocess.run(
        rig.command("plan"),
        cwd=ROOT,
        env=environment() | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert b"source  \\u2603  (new)" in done.stdout
