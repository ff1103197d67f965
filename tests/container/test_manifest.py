"""The pods of the manifests, carried out by Docker: same image, user, arguments, mounts and restrictions."""

import os
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from job.errors import Exit
from tests.container.engine import ROOT, checked, run
from tests.container.waiting import answers, eventually
from tests.k8s.conftest import environment

pytestmark = pytest.mark.needs_docker


def workload(path: str) -> dict[str, Any]:
    spec = yaml.safe_load((ROOT / "k8s" / path).read_text("utf-8"))["spec"]
    pod = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["spec"]
    assert isinstance(pod, dict)
    return pod


def as_docker(pod: dict[str, Any], folders: Path) -> list[str]:
    """Translate what the pod asks for into options of `docker run`; claims become folders."""
    [container] = pod["containers"]
    context = pod["securityContext"]
    options = ["--user", f"{context['runAsUser']}:{context['runAsGroup']}", "--group-add", str(context["fsGroup"])]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    options += ["--read-only", "--cap-drop", *container["securityContext"]["capabilities"]["drop"]]
    options += ["--security-opt", "no-new-privileges", "--memory", "512m"]
    for name, text in environment(pod, namespace="backup").items():
        options += ["--env", f"{name}={text}"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        if "emptyDir" in volumes[mount["name"]]:
            options += ["--tmpfs", mount["mountPath"]]
        else:
            mode = "ro" if mount.get("readOnly") else "rw"
            options += ["--volume", f"{folders / mount['name']}:{mount['mountPath']}:{mode}"]
    return options


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    """What the volumes hold; writable through the group only, as the kubelet leaves them with `fsGroup`."""
    for name in ("source", "mirror", "state", "config"):
        (tmp_path / name).mkdir()
    for name in ("mirror", "state"):
        os.chown(tmp_path / name, 0, workload("base/cronjob.yaml")["securityContext"]["fsGroup"])
        (tmp_path / name).chmod(0o2775)
    (tmp_path / "config" / "backup_config.json").write_bytes((ROOT / "k8s/base/backup_config.json").read_bytes())
    (tmp_path / "source" / "photo").write_text("1", "utf-8")
    return tmp_path


def test_the_pod_of_the_cronjob_backs_up(image: str, claims: Path) -> None:
    pod = workload("base/cronjob.yaml")

    finished = run("docker", "run", "--rm", *as_docker(pod, claims), image, *pod["containers"][0]["args"])

    assert finished.returncode == Exit.OK, finished.stdout + finished.stderr
    assert (claims / "mirror" / "photo").read_text("utf-8") == "1"
    assert list((claims / "source").iterdir()) == [claims / "source" / "photo"]


def succeeds(container: str, command: list[str]) -> bool:
    return run("docker", "exec", container, *command).returncode == 0


def test_the_pod_of_the_deployment_answers_its_probes(image: str, claims: Path) -> None:
    pod = workload("deployment/deployment.yaml")
    [container] = pod["containers"]
    inside = container["ports"][0]["containerPort"]
    publish = ("--publish", f"127.0.0.1::{inside}")

    started = run("docker", "run", "--detach", *publish, *as_docker(pod, claims), image, *container["args"])

    name = checked(started).strip()
    try:
        port = int(checked(run("docker", "port", name, f"{inside}/tcp")).strip().rpartition(":")[2])
        for probe in ("livenessProbe", "readinessProbe"):
            eventually(partial(succeeds, name, container[probe]["exec"]["command"]))
        eventually(partial(answers, port, "/metrics"))
        eventually((claims / "mirror" / "photo").exists)
        # Kubernetes kills what has not stopped within the grace period, here 5 of its 30 seconds.
        checked(run("docker", "stop", "--time", "5", name))
        assert checked(run("docker", "inspect", "--format", "{{.State.ExitCode}}", name)).strip() == "0"
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)
