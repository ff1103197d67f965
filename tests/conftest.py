"""What every test may ask for, and what it must have."""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import settings

from tests import workers

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

PRIVILEGE = re.compile(
    r"geteuid|getuid|chown|NOBODY|unprivileged|UNPRIVILEGED|PermissionError|EACCES|EPERM|walls|posix_acl|privilege"
)
"""Words of modules whose tests may come out differently for root and for an ordinary user."""

LONG = (
    "bench/test_budget.py",
    "bench/test_command.py",
    "cases/test_security_cases.py",
    "faults/matrix/test_matrix.py",
    "faults/power",
    "faults/test_kill_sweep.py",
    "faults/test_memory.py",
    "faults/test_races.py",
    "faults/test_sizes.py",
    "fidelity/test_file_systems.py",
    "monitoring/test_rules.py",
    "state",
)
"""Modules and folders with tests of 10 seconds and more."""

# What is timed goes to the benchmark; a busy machine must not fail a property.
settings.register_profile("calm", deadline=None)
settings.load_profile("calm")


@pytest.fixture(autouse=True, scope="session")
def _no_litter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what jobs under test leave in the folder for temporary files, such as known configs, out of the real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        # What is known of mirrors: another test run may have had one at the same path.
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("xdg")))
        for runtime_folder in ("XDG_RUNTIME_DIR", "RUNTIME_DIRECTORY"):
            patch.delenv(runtime_folder, raising=False)
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--workers", type=int, help="give every job under test so many workers (see tests/workers.py)")


def pytest_configure(config: pytest.Config) -> None:
    count: int | None = config.getoption("--workers")
    if count is not None:
        workers.force(count)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import the modules of which no test is chosen: most of them, where the choice is `as_user`."""
    chosen: str = config.getoption("markexpr")
    if not chosen.startswith("as_user") or not collection_path.is_file():
        return None
    return None if PRIVILEGE.search(collection_path.read_text("utf-8")) else True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Mark the tests that depend on privileges, and leave out those about one process where all jobs have workers.

    Where several processes share the tests, each begins with long ones: one that is left for the end keeps the others
    waiting. `--dist=worksteal` gives each process a row of tests, of which the last ones may go to others.
    """
    for path, of_module in groupby(items, lambda item: item.path):
        if PRIVILEGE.search(path.read_text("utf-8")):
            for item in of_module:
                item.add_marker("as_user")
    if config.getoption("--workers") is not None:
        left_out = [item for item in items if item.get_closest_marker("one_process")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    yield
    if (processes := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
        items[:] = _dealt(items, processes)


def _dealt(items: list[pytest.Item], processes: int) -> list[pytest.Item]:
    """Put a share of the long tests before each process's row of the others."""
    long = [item for item in items if str(item.path.relative_to(Path(__file__).parent)).startswith(LONG)]
    chosen = set(long)
    others = [item for item in items if item not in chosen]
    dealt: list[pytest.Item] = []
    for number in range(processes):
        row = (len(items) - len(dealt)) // (processes - number)
        share = long[number::processes]
        rest = max(0, row - len(share))
        dealt += share + others[:rest]
        del others[:rest]
    return dealt


def _engine_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0


def _forget_foreign_threads() -> None:
    """Forget threads that are not Python's own, such as xdist's, which `threading` notes once they ask who they are.

    The job forks its workers only where one thread is known of.
    """
    for number, thread in list(threading._active.items()):  # type: ignore[attr-defined]
        if isinstance(thread, threading._DummyThread):
            del threading._active[number]  # type: ignore[attr-defined]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the reason printed, what this machine cannot run; `.ci/run` fails on skips it does not expect."""
    _forget_foreign_threads()
    if item.get_closest_marker("needs_root") and os.geteuid() != 0:
        pytest.skip("has to be root")
    for marker in item.iter_markers("needs_tool"):
        if not shutil.which(marker.args[0]):
            pytest.skip(f"{marker.args[0]} is not on PATH")
    if item.get_closest_marker("needs_docker") and not _engine_answers():
        pytest.skip("no Docker engine answers")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """The open temp folder of the test."""
    descriptor = os.open(tmp_path, FOLDER)
    yield descriptor
    os.close(descriptor)


def open_descriptors() -> set[str]:
    """Name the open descriptors, without the one that lists them."""
    return {number for number in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{number}")}


@pytest.fixture
def no_leak() -> Iterator[None]:
    """Fail a test that leaves a descriptor open. Ask for it before anything that opens one."""
    before = open_descriptors()
    yield
    left = open_descriptors() - before
    assert not left, [os.readlink(f"/proc/self/fd/{number}") for number in left]
