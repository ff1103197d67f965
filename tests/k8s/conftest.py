"""The manifests as Kubernetes would get them, and as they stand in the files."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[2] / "k8s"
Manifest = dict[str, Any]


@pytest.fixture(scope="session")
def kustomize() -> Callable[[str], str]:
    """Build one of the folders; a warning is a failure."""

    def build(folder: str) -> str:
        run = subprocess.run(["kubectl", "kustomize", K8S / folder], capture_output=True, text=True, check=False)
        assert (run.returncode, run.stderr) == (0, "")
        return run.stdout

    return build


def environment(pod: Manifest, namespace: str) -> dict[str, str]:
    """Give the variables of a pod as the kubelet would make them."""
    downward = {"metadata.namespace": namespace, "spec.serviceAccountName": pod["serviceAccountName"]}
    found: dict[str, str] = {}
    for each in pod["containers"][0]["env"]:
        if "valueFrom" in each:
            found[each["name"]] = downward[each["valueFrom"]["fieldRef"]["fieldPath"]]
        else:
            found[each["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], each["value"])
    return found


def _document(path: Path) -> Manifest:
    document = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(document, dict)
    return document


@pytest.fixture
def cronjob() -> Manifest:
    return _document(K8S / "base" / "cronjob.yaml")


@pytest.fixture
def deployment() -> Manifest:
    return _document(K8S / "deployment" / "deployment.yaml")


@pytest.fixture
def restore() -> Manifest:
    return _document(K8S / "restore" / "job.yaml")


@pytest.fixture(params=["cronjob", "deployment", "restore"])
def pod(request: pytest.FixtureRequest, cronjob: Manifest, deployment: Manifest, restore: Manifest) -> Manifest:
    """The pod of each variant."""
    workloads = {"cronjob": cronjob["spec"]["jobTemplate"], "deployment": deployment, "restore": restore}
    template: Manifest = workloads[request.param]["spec"]["template"]["spec"]
    return template


@pytest.fixture
def container(pod: Manifest) -> Manifest:
    """Its only container."""
    [only] = pod["containers"]
    assert isinstance(only, dict)
    return only
