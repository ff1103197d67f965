import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.container.engine import BASE, ROOT, Project, checked, free_port, run
from tests.container.waiting import answers, eventually, page

pytestmark = [pytest.mark.needs_docker, pytest.mark.needs_tool("prometheus")]

# Where upstream's image has them: the program, the folder of the volume, and the user both belong to.
DOCKERFILE = """\
ARG BASE
FROM ${BASE}
COPY prometheus /bin/prometheus
RUN mkdir /prometheus && chown 65534:65534 /prometheus
USER 65534
ENTRYPOINT ["/bin/prometheus"]
"""


@pytest.fixture
def prometheus_image(image: str, tmp_path: Path) -> Iterator[str]:
    """Make an image of this machine's Prometheus that takes the place of upstream's."""
    program = shutil.which("prometheus")
    assert program
    (tmp_path / "prometheus").write_bytes(Path(program).read_bytes())
    (tmp_path / "prometheus").chmod(0o755)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE, "utf-8")
    tag = f"{image}-prometheus"
    checked(run("docker", "build", "--build-arg", f"BASE={BASE}", "--tag", tag, tmp_path))
    yield tag
    run("docker", "image", "rm", "--force", tag)


# Upstream's entry point is this script.
GRAFANA = """\
ARG BASE
FROM ${BASE}
RUN printf '#!/bin/sh\\necho "started with $GF_SECURITY_ADMIN_PASSWORD"\\n' >/run.sh && chmod 0755 /run.sh
ENTRYPOINT ["/run.sh"]
"""


def answer(port: int, path: str) -> Any:
    body = json.loads(page(port, path))
    assert body["status"] == "success"
    return body["data"]


def test_prometheus_scrapes_the_job_and_loads_the_rules_of_the_repository(
    new_project: Callable[[], Project], prometheus_image: str
) -> None:
    project = new_project()
    copied = shutil.copytree(ROOT / "config" / "monitoring", project.folder / "config" / "monitoring")
    scrape = copied / "prometheus" / "prometheus.yml"
    scrape.write_text(scrape.read_text("utf-8").replace("interval: 15s", "interval: 1s"), "utf-8")
    port = free_port()
    project.env |= {"PROMETHEUS_IMAGE": prometheus_image, "PROMETHEUS_PORT": str(port)}

    project.up("truecopy", "prometheus")

    eventually(partial(answers, port, "/-/ready"))
    eventually(lambda: answer(port, "/api/v1/query?query=truecopy_build_info")["result"])
    [target] = answer(port, "/api/v1/targets")["activeTargets"]
    assert (target["health"], target["labels"]["job"]) == ("up", "truecopy")
    groups = answer(port, "/api/v1/rules")["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
    assert groups


@pytest.fixture
def grafana_image(image: str, tmp_path: Path) -> Iterator[str]:
    """Make an image that starts like Grafana's, and tells the password it would take."""
    (tmp_path / "Dockerfile").write_text(GRAFANA, "utf-8")
    tag = f"{image}-grafana"
    checked(run("docker", "build", "--build-arg", f"BASE={BASE}", "--tag", tag, tmp_path))
    yield tag
    run("docker", "image", "rm", "--force", tag)


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({}, 1, "put GRAFANA_PASSWORD=... into the file .env"),
        ({"GRAFANA_PASSWORD": ""}, 1, "put GRAFANA_PASSWORD=... into the file .env"),
        ({"GRAFANA_PASSWORD": "of mine"}, 0, "started with of mine"),
    ],
)
def test_grafana_starts_with_a_password_that_was_given_and_with_no_other(
    new_project: Callable[[], Project], grafana_image: str, given: dict[str, str], code: int, said: str
) -> None:
    project = new_project()
    shutil.copytree(ROOT / "config" / "monitoring", project.folder / "config" / "monitoring")
    project.env |= {"GRAFANA_IMAGE": grafana_image, **given}

    ended = project.compose("--profile", "monitoring", "run", "--rm", "--no-deps", "grafana")

    assert (ended.returncode, said in ended.stdout + ended.stderr) == (code, True), ended.stdout + ended.stderr
