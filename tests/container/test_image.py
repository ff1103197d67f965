import json
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import job
from job.errors import Exit
from tests.container.engine import BASE, ROOT, USER, Container, Finished, checked, run
from tests.faults.rig import temps_in

pytestmark = pytest.mark.needs_docker

MEGABYTE = 1_000_000
APP_CEILING = 40 * MEGABYTE
"""What the image may add to its base: Truecopy, its dependencies and their bytecode."""


@pytest.fixture(scope="session")
def facts(image: str) -> dict[str, Any]:
    [found] = json.loads(checked(run("docker", "image", "inspect", image)))
    assert isinstance(found, dict)
    return found


def windows_config(folder: Path, run_enabled: str) -> str:
    """Write the original's sample, and give the option that mounts it over the image's."""
    sample = {
        "run_enabled": run_enabled,
        "source_dirs": ["C:\\Users\\me\\Music"],
        "dest_dirs": ["D:\\Backup\\Music"],
        "log_file": "data/logs/backup.log",
        "error_log_file": "data/logs/error.log",
        "sleep_time": 30,
    }
    (folder / "config.json").write_text(json.dumps(sample), "utf-8")
    return f"--volume={folder / 'config.json'}:/truecopy/config/backup_config.json:ro"


def events(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def test_nothing_in_the_image_needs_a_shell_or_root(facts: dict[str, Any]) -> None:
    config = facts["Config"]

    assert config["Entrypoint"] == ["python", "-m", "job"]
    assert config["Cmd"] == ["run"]
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "job", "healthcheck"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["User"] == "10001:10001"


def test_the_image_says_what_it_is(facts: dict[str, Any]) -> None:
    labels = facts["Config"]["Labels"]

    assert labels["org.opencontainers.image.title"] == "Truecopy"
    assert labels["org.opencontainers.image.version"] == job.__version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_no_label_of_a_plain_build_is_made_up(facts: dict[str, Any]) -> None:
    labels = facts["Config"]["Labels"]

    assert not {"org.opencontainers.image.created", "org.opencontainers.image.revision"} & labels.keys()
    made = datetime.fromisoformat(facts["Created"].partition(".")[0].rstrip("Z")).replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - made) < timedelta(days=1)


def test_the_command_for_published_images_labels_them_with_time_and_revision(image: str) -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    begin = next(number for number, line in enumerate(lines) if "--label" in line)
    command = " ".join(line.removeprefix("#").strip().removesuffix("\\") for line in lines[begin : begin + 2])
    tag = f"{image}-published"
    words = f"docker build --network host --build-arg PYTHON_IMAGE={BASE} --tag {tag}"
    command = re.sub(r"docker build --tag truecopy:\S+", words, command)

    trusted = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    checked(run("bash", "-c", f"cd {ROOT} && {command}", env=trusted, timeout=600))

    [found] = json.loads(checked(run("docker", "image", "inspect", tag)))
    run("docker", "image", "rm", "--force", tag)
    labels = found["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == job.__version__
    created = datetime.fromisoformat(labels["org.opencontainers.image.created"])
    assert abs(datetime.now(UTC) - created) < timedelta(hours=1)
    assert re.fullmatch(r"[0-9a-f]{40}", labels["org.opencontainers.image.revision"])


def test_the_image_adds_little_to_its_base(facts: dict[str, Any], image: str) -> None:
    # Oldest first; the base's own layers were there before the first of ours, which copies /app.
    history = checked(
        run("docker", "history", "--human=false", "--no-trunc", "--format", "{{.Size}} {{.CreatedBy}}", image)
    )

    sizes = [line.split(" ", 1) for line in history.splitlines()]
    first = next(place for place, (_, made_by) in enumerate(sizes) if "/app /app" in made_by)
    assert sum(int(size) for size, _ in sizes[: first + 1]) < APP_CEILING
    assert facts["Size"] < 250 * MEGABYTE


def test_the_dependencies_are_those_of_the_lock_and_no_installer_came_along(image: str) -> None:
    program = "import os, job; print(*sorted(os.listdir(os.path.dirname(os.path.dirname(job.__file__)))))"

    listed = checked(run("docker", "run", "--rm", "--entrypoint", "python", image, "-c", program)).split()

    assert {"job", "pydantic", "waitress", "licenses"} <= set(listed)
    assert not {"pip", "setuptools", "wheel", "hatchling", "pytest", "tests", "bin"} & set(listed)


def test_one_run_mirrors_a_folder_under_every_restriction(container: Container) -> None:
    source = container.folders / "source"
    (source / "album").mkdir()
    (source / "album" / "one.flac").write_bytes(b"\0one" * 1000)
    (source / "album" / "one.flac").chmod(0o640)
    os.chown(source / "album" / "one.flac", USER, USER)

    finished = container("run", "--once")

    assert finished.returncode == Exit.OK, finished.stdout + finished.stderr
    copy = container.folders / "mirror" / "album" / "one.flac"
    assert copy.read_bytes() == b"\0one" * 1000
    assert (copy.stat().st_uid, copy.stat().st_mode & 0o777) == (USER, 0o640)
    assert "file_copied" in {event["event"] for event in events(finished.stdout)}
    assert (container.folders / "logs" / "backup.log").stat().st_uid == USER


def test_a_second_container_goes_on_where_the_first_one_stopped(container: Container) -> None:
    (container.folders / "source" / "one").write_text("1", "utf-8")
    checked(container("run", "--once"))

    again = container("run", "--once")

    assert again.returncode == Exit.OK
    assert "file_copied" not in {event["event"] for event in events(again.stdout)}


def test_a_file_it_may_not_read_makes_the_run_partial(container: Container) -> None:
    (container.folders / "source" / "mine").write_text("1", "utf-8")
    secret = container.folders / "source" / "roots"
    secret.write_text("2", "utf-8")
    secret.chmod(0o600)

    finished = container("run", "--once")

    assert finished.returncode == Exit.PARTIAL, finished.stdout + finished.stderr
    assert (container.folders / "mirror" / "mine").read_text("utf-8") == "1"


def test_a_source_that_is_suddenly_empty_is_refused(container: Container) -> None:
    (container.folders / "source" / "one").write_text("1", "utf-8")
    checked(container("run", "--once"))
    (container.folders / "source" / "one").unlink()

    finished = container("run", "--once")

    assert finished.returncode == Exit.REFUSED, finished.stdout + finished.stderr
    assert (container.folders / "mirror" / "one").exists()


def test_a_mirror_that_nobody_mounted_is_not_written_into_the_container(image: str, folders: Path) -> None:
    (folders / "source" / "one").write_text("1", "utf-8")

    finished = run(
        "docker", "run", "--rm", "--volume", f"{folders / 'source'}:/truecopy/data/source:ro", image, "run", "--once"
    )

    assert finished.returncode == Exit.REFUSED, finished.stdout + finished.stderr


def test_the_windows_paths_of_the_original_are_explained_by_the_missing_mount(container: Container) -> None:
    option = windows_config(container.folders, "Y")

    finished = container("run", "--once", options=(option,))

    assert finished.returncode == Exit.USAGE
    told = finished.stdout + finished.stderr
    assert "is a Windows path" in told
    assert "mount" in told


def test_the_original_sample_that_is_disabled_does_nothing(container: Container) -> None:
    option = windows_config(container.folders, "N")

    finished = container("run", "--once", options=(option,))

    assert finished.returncode == Exit.OK, finished.stdout + finished.stderr
    assert "disabled" in finished.stdout


def test_an_unknown_command_is_a_usage_error(container: Container) -> None:
    assert container("backup").returncode == Exit.USAGE


@pytest.fixture
def slow(container: Container) -> Iterator[tuple[str, Future[Finished]]]:
    """Give the name and the end of a run that is in the middle of a file and would stay there for minutes."""
    (container.folders / "source" / "large").write_bytes(os.urandom(4 * MEGABYTE))
    name = f"truecopy-slow-{os.getpid()}"
    options = ("--name", name, "--env", "TRUECOPY_RATE_LIMIT=20000")
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(container, "run", "--once", options=options)
        while not temps_in(container.folders / "mirror"):
            assert not end.done(), end.result()
            time.sleep(0.05)
        yield name, end
        run("docker", "rm", "--force", name)


def test_a_stopped_one_shot_run_says_so_in_its_exit_code(
    container: Container, slow: tuple[str, Future[Finished]]
) -> None:
    name, end = slow

    # Docker kills what has not stopped by then, and that would show as exit code 137.
    checked(run("docker", "stop", "--time", "5", name))

    assert end.result().returncode == Exit.TERMINATED
    assert [path.name for path in (container.folders / "mirror").iterdir()] == [".truecopy"]


def test_a_second_run_at_the_same_time_is_busy_until_the_first_one_is_dead(
    container: Container, slow: tuple[str, Future[Finished]]
) -> None:
    name, _ = slow
    # One that keeps its state to itself reaches the same mirror.
    own_state = ("--tmpfs", "/elsewhere:mode=1777", "--env", "TRUECOPY_STATE_DIR=/elsewhere")

    busy, stranger = container("run", "--once"), container("run", "--once", options=own_state)
    host = checked(run("docker", "inspect", "--format", "{{.Config.Hostname}}", name)).strip()
    alive = checked(run("docker", "ps", "--format", "{{.Names}}"))
    checked(run("docker", "kill", "--signal", "KILL", name))
    after = container("run", "--once")

    assert (busy.returncode, stranger.returncode, after.returncode) == (Exit.BUSY, Exit.BUSY, Exit.OK)
    assert name in alive
    [told] = [event["error"] for event in events(busy.stdout) if event["event"] == "pair_busy"]
    assert f"on {host!r}, in another container of this machine, since" in told
    mirrored = (container.folders / "mirror" / "large").read_bytes()
    assert mirrored == (container.folders / "source" / "large").read_bytes()


MISBEHAVING = """
import os
from job.fs.copier import Copier

def copy(self, *_):
    told = []
    for place in ("/truecopy/data/logs/written", "/tmp/written", "/truecopy/data/mirror/written"):
        try:
            os.close(os.open(place, os.O_WRONLY | os.O_CREAT))
        except PermissionError:
            continue
        told.append(place)
    raise OSError("could write " + " ".join(told))

Copier.copy = copy
"""


@pytest.mark.parametrize("way", ["one process", "workers"])
def test_the_work_in_a_container_is_walled_in(container: Container, way: str) -> None:
    (container.folders / "source" / "one").write_text("1", "utf-8")
    (container.folders / "sitecustomize.py").write_text(MISBEHAVING)
    options = ["--env", "TRUECOPY_LANDLOCK=required", "--env", "PYTHONPATH=/app:/code"]
    if way == "workers":
        options += ["--env", "TRUECOPY_WORKERS=2", "--env", "TRUECOPY_WORKERS_FROM=0"]
    misbehaves = ("--volume", f"{container.folders / 'sitecustomize.py'}:/code/sitecustomize.py:ro")

    finished = container("run", "--once", options=(*options, *misbehaves))
    well = container("run", "--once", options=tuple(options))
    status = checked(container("status"))

    assert finished.returncode == Exit.PARTIAL, finished.stdout + finished.stderr
    [told] = [event["error"] for event in events(finished.stdout) if event["event"] == "file_failed"]
    assert told == "could write /truecopy/data/mirror/written"
    assert well.returncode == Exit.OK, well.stdout + well.stderr
    assert (container.folders / "mirror" / "one").read_text("utf-8") == "1"
    assert "Landlock, version" in status
