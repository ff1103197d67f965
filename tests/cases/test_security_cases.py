"""Each case is what another user of the machine, or whoever reaches the port, does to a backup that runs as root.

A script can be run alone: `TC=.venv/bin/truecopy SRC=$PWD bash tests/cases/security/01-flock-by-anybody.sh`, as root.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.tampering import mounted

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent / "security"
CASES = {script.stem: script for script in sorted(FOLDER.glob("[0-9]*.sh"))}
CANNOT = 77

FOR_ANYBODY = {
    "08-file-twin-shows-secret",
    "09-login-in-a-wrong-url",
    "15-index-with-a-trap",
    "20-supply-chain",
    "23-names-against-patterns",
    "34-password-to-another-host",
}
"""Cases in which there is one user only: whoever runs the tests."""
TOOLS = {
    "02-acl-mask-becomes-group": ("setfacl",),
    "14-xattr-memory": ("mkfs.xfs", "time"),
    "16-default-acl-slipped-in": ("setfacl",),
}
SMALLER = {
    "03-folder-tightened-late": {"FILES": "3000"},
    "08-file-twin-shows-secret": {"SHARE": "yes"},
    "10-http-slots-liveness": {"SECS": "30"},
    # At each name Landlock's check goes through all folders above, and the index is the same without it.
    "13-deep-nest": {"DEPTH": "1000", "TRUECOPY_LANDLOCK": "off"},
    "16-default-acl-slipped-in": {"FILES": "3000"},
}
"""Numbers and keys that show the fault as well and take less time."""
LARGER: dict[str, dict[str, str]] = {
    "03-folder-tightened-late": {},
    "08-file-twin-shows-secret": {},
    "13-deep-nest": {"DEPTH": "3000", "TRUECOPY_LANDLOCK": "off"},
    "16-default-acl-slipped-in": {},
}
"""The same for `make test-slow`."""
IN_MEMORY = ("05-private-folder-taken", "13-deep-nest")
"""Cases with thousands of folders, for which any file system will do: made and removed in memory."""
ANSWERS = ("continue", "continue-headers", "body", "errbody", "line", "redirect", "auth", "drip")
GATEWAY = "17-hostile-pushgateway"
AT_ONCE = 3
"""Cases that mostly wait, run side by side."""
WAITING = ("10-http-slots-liveness", "26-descriptors-by-port", "29-port-squatted")
SECONDS = {
    "08-file-twin-shows-secret": 250,
    "11-http-flood-slows-cycle": 200,
    "13-deep-nest": 310,
    "14-xattr-memory": 200,
}
USUALLY = 150
"""Seconds after which a case has failed, if `SECONDS` does not give it more."""


class Ran(NamedTuple):
    """A case that ended."""

    code: int
    told: str


def ran(name: str, folder: str, **options: str) -> Ran:
    """Run a case to its end; when its time is over, everything that it started is ended, too."""
    command = Path(sys.executable).with_name("truecopy")
    own = {"TC": str(command), "SRC": str(ROOT), "CASES_TMP": folder, **options}
    if name in FOR_ANYBODY:
        own["ANY_USER"] = "yes"
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        case = subprocess.Popen(
            ["bash", str(CASES[name])],
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = case.wait(SECONDS.get(name, USUALLY))
        except subprocess.TimeoutExpired:
            code = ended(case)
        output.seek(0)
        return Ran(code, output.read())


def ended(case: "subprocess.Popen[bytes]") -> int:
    """End a case and all that it started; its shell still unmounts and removes what it made."""
    for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        with suppress(ProcessLookupError):
            os.killpg(case.pid, number)
        with suppress(subprocess.TimeoutExpired):
            case.wait(patience)
    return -signal.SIGKILL


def judge(result: Ran) -> None:
    if result.code == CANNOT:
        pytest.skip(result.told.strip() or "the case cannot be made here")
    assert result.code == 0, result.told


@pytest.fixture(scope="module")
def folder() -> Iterator[str]:
    """Give a folder that every user may pass, on a file system with attributes and ACLs."""
    with tempfile.TemporaryDirectory(prefix="truecopy-cases-", dir="/var/tmp", ignore_cleanup_errors=True) as path:
        os.chmod(path, 0o755)
        yield path


@pytest.fixture(scope="module")
def memory_folder(folder: str) -> Iterator[str]:
    """Give such a folder in memory."""
    with mounted("tmpfs", Path(folder, "memory"), "-t", "tmpfs", "-o", "mode=755") as path:
        yield str(path)


@pytest.fixture(scope="module")
def waiting(folder: str, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Ran]]:
    """Begin the cases that were asked for and mostly wait; give what tells how one ended."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        yield lambda name: ran_with(name, folder)  # other processes see to the others
        return
    chosen = [item for item in request.session.items if "waiting" in getattr(item, "fixturenames", ())]
    names = [item.callspec.params["name"] for item in chosen if isinstance(item, pytest.Function)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        begun = {name: pool.submit(ran_with, str(name), folder) for name in names}
        try:
            yield lambda name: begun[name].result()
        finally:
            pool.shutdown(cancel_futures=True)


def ran_with(name: str, folder: str) -> Ran:
    """Run a case, or the one of the Pushgateway with one of its answers."""
    return ran(GATEWAY, folder, HOW=name) if name in ANSWERS else ran(name, folder, **SMALLER.get(name, {}))


def cases() -> Iterator[object]:
    for name in CASES:
        if name in (GATEWAY, *WAITING):
            continue
        marks = [pytest.mark.timeout(SECONDS.get(name, USUALLY) + 40)]
        marks += [] if name in FOR_ANYBODY else [pytest.mark.needs_root]
        marks += [pytest.mark.needs_tool(tool) for tool in TOOLS.get(name, ())]
        yield pytest.param(name, id=name, marks=marks)


@pytest.mark.one_process
@pytest.mark.parametrize("name", [*cases()])
def test_what_somebody_else_does_to_a_backup_does_no_harm(
    name: str, folder: str, request: pytest.FixtureRequest
) -> None:
    judge(ran(name, request.getfixturevalue("memory_folder") if name in IN_MEMORY else folder, **SMALLER.get(name, {})))


@pytest.mark.slow
@pytest.mark.one_process
@pytest.mark.needs_root
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", LARGER)
def test_a_case_of_its_whole_size_does_no_harm(name: str, memory_folder: str) -> None:
    judge(ran(name, memory_folder, **LARGER[name]))


@pytest.mark.one_process
@pytest.mark.needs_root
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [*WAITING, *ANSWERS])
def test_what_whoever_is_at_the_other_end_does_to_a_backup_does_no_harm(
    name: str, waiting: Callable[[str], Ran]
) -> None:
    judge(waiting(name))


def test_there_are_cases_and_what_is_said_of_them_is_about_them() -> None:
    assert len(CASES) >= 32
    assert {*FOR_ANYBODY, *TOOLS, *SMALLER, *IN_MEMORY, *SECONDS, *WAITING, GATEWAY} <= set(CASES)
