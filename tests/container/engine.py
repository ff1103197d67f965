"""The engine as tests talk to it: one container under every restriction, or a Compose project of its own."""

import json
import os
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BASE = os.environ.get("TEST_BASE_IMAGE", "python:3.13-slim")
"""What to build on: `.ci/engine` makes a stand-in where no registry of images is reached."""
USER = 4321
"""Neither root nor the image's own user, and unknown to the image: anybody may be given with PUID."""

Finished = subprocess.CompletedProcess[str]


def run(*command: str | Path, env: dict[str, str] | None = None, timeout: float = 110) -> Finished:
    return subprocess.run(
        command, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False, timeout=timeout
    )


def checked(finished: Finished) -> str:
    assert finished.returncode == 0, f"{finished.args}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


@dataclass
class Container:
    """Starts the image under every restriction that the documentation promises it works with."""

    image: str
    folders: Path

    def __call__(self, *arguments: str, options: tuple[str, ...] = ()) -> Finished:
        mounts: list[str] = []
        for name, target in (("mirror", "data/mirror"), ("logs", "data/logs"), ("state", "state")):
            mounts += ["--volume", f"{self.folders / name}:/truecopy/{target}"]
        return run(
            *("docker", "run", "--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            *("--network", "none", "--tmpfs", "/tmp", "--user", f"{USER}:{USER}", "--memory", "256m"),
            *("--volume", f"{self.folders / 'source'}:/truecopy/data/source:ro", *mounts),
            *options,
            self.image,
            *arguments,
        )


@dataclass
class Project:
    """A Compose project in a folder of its own, laid out as in a fresh clone."""

    folder: Path
    port: int
    env: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"truecopy-test-{self.port}"

    def compose(self, *arguments: str) -> Finished:
        files: list[str | Path] = ["--file", self.folder / "docker-compose.yml"]
        if self.override.exists():
            files += ["--file", self.override]
        return run("docker", "compose", "--project-name", self.name, *files, *arguments, env=self.env)

    @property
    def override(self) -> Path:
        """The file that Compose reads as well, if it exists."""
        return self.folder / "docker-compose.override.yml"

    def once(self) -> Finished:
        """Run one cycle in a container of its own."""
        return self.compose("run", "--rm", "truecopy", "run", "--once")

    def up(self, *services: str) -> None:
        """Start in the background and wait until the services are healthy."""
        started = self.compose("up", "--detach", "--no-build", "--wait", *(services or ("truecopy",)))
        assert started.returncode == 0, started.stderr + self.compose("logs").stdout

    def container(self) -> dict[str, Any]:
        """What the engine knows about the service's container, running or not."""
        name = checked(self.compose("ps", "--all", "--quiet", "truecopy")).strip()
        [facts] = json.loads(checked(run("docker", "inspect", name)))
        assert isinstance(facts, dict)
        return facts


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def open_context(folder: Path) -> None:
    (folder / "docker-compose.yml").write_bytes((ROOT / "docker-compose.yml").read_bytes())
    (folder / "config").mkdir()
    (folder / "config" / "backup_config.json").write_bytes((ROOT / "config" / "backup_config.json").read_bytes())
    for name in ("source", "mirror", "logs"):
        (folder / "data" / name).mkdir(parents=True)
        os.chown(folder / "data" / name, USER, USER)
