"""What every test may ask for, and what it must have."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import settings

# What is timed goes to the benchmark; a busy machine must not fail a property.
settings.register_profile("calm", deadline=None)
settings.load_profile("calm")


@pytest.fixture(autouse=True, scope="session")
def _no_litter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what jobs under test leave in the folder for temporary files, such as known configs, out of the real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        yield


def _engine_answers() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the reason printed, what this machine cannot run; `.ci/run` fails on skips it does not expect."""
    if item.get_closest_marker("needs_root") and os.geteuid() != 0:
        pytest.skip("has to be root")
    for marker in item.iter_markers("needs_tool"):
        if not shutil.which(marker.args[0]):
            pytest.skip(f"{marker.args[0]} is not on PATH")
    if item.get_closest_marker("needs_docker") and not _engine_answers():
        pytest.skip("no Docker engine answers")
