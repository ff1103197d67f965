"""One image a session, containers and Compose projects that are gone afterwards."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.container.engine import BASE, ROOT, USER, Container, Project, checked, free_port, open_context, run


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """Build the image as a user would; where no registry is reached, on the base that `.ci/engine` made.

    Over the host's own network: what pip can reach from a container depends on rules that are not ours to test.
    """
    tag = f"truecopy:test-{os.getpid()}"
    arguments = ("--network", "host", "--build-arg", f"PYTHON_IMAGE={BASE}")
    checked(run("docker", "build", *arguments, "--tag", tag, ROOT, timeout=600))
    yield tag
    run("docker", "image", "rm", "--force", tag)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A folder with source, mirror, logs and state, of which the user may write the last three."""
    for name in ("source", "mirror", "logs", "state"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, USER, USER)
    return tmp_path


@pytest.fixture
def container(image: str, folders: Path) -> Container:
    return Container(image, folders)


@pytest.fixture(scope="session")
def new_project(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Project]]:
    """Make projects that are taken down at the end of the session."""
    made: list[Project] = []

    def make() -> Project:
        folder = tmp_path_factory.mktemp("compose")
        open_context(folder)
        port = free_port()
        settings = {"PUID": str(USER), "PGID": str(USER), "METRICS_PORT": str(port), "TRUECOPY_SLEEP_TIME": "1"}
        made.append(Project(folder, port, {"IMAGE": image, **settings}))
        return made[-1]

    yield make
    for project in made:
        with suppress(subprocess.TimeoutExpired):
            project.compose("--profile", "monitoring", "down", "--volumes", "--timeout", "10")
