import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import job

VERSIONS = ("1.29", "1.33", "1.37")
FOLDERS = ("base", "deployment", "restore")


@pytest.mark.needs_tool("kubectl")
@pytest.mark.needs_tool("kubernetes-validate")
@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid_for_old_and_new_clusters(
    kustomize: Callable[[str], str], tmp_path: Path, folder: str, version: str
) -> None:
    built = tmp_path / "built.yaml"
    built.write_text(kustomize(folder), "utf-8")

    run = subprocess.run(
        ["kubernetes-validate", "--strict", "--kubernetes-version", version, built],
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.needs_tool("kubectl")
@pytest.mark.parametrize(
    ("folder", "kind", "name"),
    [("base", "CronJob", "truecopy"), ("deployment", "Deployment", "truecopy"), ("restore", "Job", "truecopy-restore")],
)
def test_a_variant_holds_one_workload_and_what_it_refers_to(
    kustomize: Callable[[str], str], folder: str, kind: str, name: str
) -> None:
    built = list(yaml.safe_load_all(kustomize(folder)))

    names = {(each["kind"], each["metadata"]["name"]) for each in built}
    assert {each for each in names if each[0] in {"CronJob", "Deployment", "Job"}} == {(kind, name)}
    workload = next(each for each in built if each["kind"] == kind)
    spec = workload["spec"]["jobTemplate"]["spec"] if kind == "CronJob" else workload["spec"]
    pod = spec["template"]["spec"]
    assert ("ServiceAccount", pod["serviceAccountName"]) in names
    for volume in pod["volumes"]:
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in names
        if "persistentVolumeClaim" in volume:
            assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in names
    assert [each["image"] for each in pod["containers"]] == [f"truecopy:{job.__version__}"]


@pytest.mark.needs_tool("kubectl")
def test_the_service_finds_the_pods_of_the_deployment(kustomize: Callable[[str], str]) -> None:
    built = {each["kind"]: each for each in yaml.safe_load_all(kustomize("deployment"))}

    selector = built["Service"]["spec"]["selector"]
    assert selector.items() <= built["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert selector == built["Deployment"]["spec"]["selector"]["matchLabels"]
