"""Overlays as a user writes them: those of the README, and two backups side by side."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.conftest import K8S, Manifest, environment
from tests.k8s.test_policy import longest_wait

pytestmark = pytest.mark.needs_tool("kubectl")

OVERLAY, DEPLOYMENT_PATCH, RESTORE_PATCH, POLICY_PATCH = re.findall(
    r"^```yaml\n(.*?)^```", (K8S / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
)
"""What the README shows, in this order."""
BASE, VARIANT = "resources: [../k8s/base]", "resources: [../k8s/deployment]"


class Overlays:
    """Overlays beside a copy of the manifests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.copytree(K8S, folder / "k8s")

    def build(self, name: str, kustomization: str) -> "subprocess.CompletedProcess[str]":
        overlay = self._folder / name
        overlay.mkdir()
        (overlay / "kustomization.yaml").write_text(kustomization, "utf-8")
        shutil.copy(K8S / "base" / "backup_config.json", overlay)
        return subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True, check=False)

    def built(self, name: str, kustomization: str) -> dict[str, Manifest]:
        """Give the manifests by their kind; of the claims, the last."""
        run = self.build(name, kustomization)
        assert (run.returncode, run.stderr) == (0, "")
        return {each["kind"]: each for each in yaml.safe_load_all(run.stdout)}


@pytest.fixture
def overlays(tmp_path: Path) -> Overlays:
    return Overlays(tmp_path)


def pod_of(workload: Manifest) -> Manifest:
    spec = workload["spec"].get("jobTemplate", workload)["spec"]
    pod: Manifest = spec["template"]["spec"]
    return pod


def variables(workload: Manifest) -> dict[str, str]:
    """Give the variables of the pods of a workload."""
    return environment(pod_of(workload), workload["metadata"]["namespace"])


def claim(workload: Manifest, name: str) -> Any:
    [volume] = [each for each in pod_of(workload)["volumes"] if each["name"] == name]
    return volume["persistentVolumeClaim"]


def test_the_overlay_of_the_readme_has_its_claim_schedule_and_interval(overlays: Overlays) -> None:
    cronjob = overlays.built("my-backup", OVERLAY)["CronJob"]

    assert claim(cronjob, "source") == {"claimName": "photos", "readOnly": True}
    assert claim(cronjob, "mirror") == {"claimName": "truecopy-mirror"}
    assert cronjob["spec"]["schedule"] == "47 3 * * 0"
    assert variables(cronjob)["TRUECOPY_EXPECTED_INTERVAL"] == "7d"
    assert longest_wait(cronjob["spec"]["schedule"]) == 7 * 86400
    assert variables(cronjob)["TRUECOPY_METRICS_PUSHGATEWAY_INSTANCE"] == "backup/truecopy"
    assert pod_of(cronjob)["containers"][0]["args"] == ["run", "--once", "--skip-if-busy"]


def test_the_deployment_with_the_patch_of_the_readme_has_its_claim(overlays: Overlays) -> None:
    head, _, _ = OVERLAY.partition("patches:")

    built = overlays.built("my-backup", head.replace(BASE, VARIANT) + DEPLOYMENT_PATCH)

    assert "CronJob" not in built
    assert claim(built["Deployment"], "source") == {"claimName": "photos", "readOnly": True}
    assert claim(built["Deployment"], "state") == {"claimName": "truecopy-state"}


def test_the_restore_with_the_patch_of_the_readme_has_the_claims_and_the_configuration_of_the_backup(
    overlays: Overlays,
) -> None:
    head, _, _ = OVERLAY.partition("patches:")

    backup = overlays.built("my-backup", OVERLAY)
    built = overlays.built("my-restore", head.replace(BASE, "resources: [../k8s/restore]") + RESTORE_PATCH)

    assert not {"CronJob", "Deployment"} & built.keys()
    job, cronjob = built["Job"], backup["CronJob"]
    assert claim(job, "source") == claim(cronjob, "source")
    assert claim(job, "mirror") == claim(cronjob, "mirror")
    assert claim(job, "state") == claim(cronjob, "state")
    assert claim(job, "restored") == {"claimName": "photos-restored"}
    assert built["ConfigMap"]["metadata"]["name"] == backup["ConfigMap"]["metadata"]["name"]
    assert pod_of(job)["containers"][0]["image"] == pod_of(cronjob)["containers"][0]["image"]
    args = pod_of(job)["containers"][0]["args"]
    command = [sys.executable, "-m", "job", *args, "--help"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_patch_of_the_readme_lets_another_namespace_scrape_and_nobody_else(overlays: Overlays) -> None:
    head, _, _ = OVERLAY.partition("patches:")

    built = overlays.built("my-backup", head.replace(BASE, VARIANT) + DEPLOYMENT_PATCH + POLICY_PATCH)

    [rule] = built["NetworkPolicy"]["spec"]["ingress"]
    shipped = yaml.safe_load((K8S / "deployment" / "networkpolicy.yaml").read_text("utf-8"))["spec"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "observability"}}}]
    assert rule["ports"] == shipped["ingress"][0]["ports"]
    assert built["NetworkPolicy"]["spec"]["podSelector"] == shipped["podSelector"]


@pytest.mark.parametrize("resources", [BASE, VARIANT])
def test_a_patch_for_the_other_variant_fails_the_build(overlays: Overlays, resources: str) -> None:
    head, _, patch = OVERLAY.partition("patches:")
    wrong = f"patches:{patch}" if resources == VARIANT else DEPLOYMENT_PATCH

    run = overlays.build("my-backup", head.replace(BASE, resources) + wrong)

    assert run.returncode != 0
    assert "no matches for Id" in run.stderr
    assert run.stdout == ""


def test_two_backups_get_names_and_push_groups_of_their_own(overlays: Overlays) -> None:
    built = [
        overlays.built("photos", f"{BASE}\nnamespace: backup\nnamePrefix: photos-\n"),
        overlays.built("music", f"{BASE}\nnamespace: backup\nnamePrefix: music-\n"),
        overlays.built("other", f"{BASE}\nnamespace: other\n"),
        overlays.built("service", f"{VARIANT}\nnamespace: backup\nnamePrefix: films-\n"),
    ]

    workloads = [each.get("CronJob") or each["Deployment"] for each in built]
    instances = [variables(each)["TRUECOPY_METRICS_PUSHGATEWAY_INSTANCE"] for each in workloads]
    assert instances == ["backup/photos-truecopy", "backup/music-truecopy", "other/truecopy", "backup/films-truecopy"]
    assert [each["metadata"]["name"] for each in workloads] == [each.partition("/")[2] for each in instances]
    assert [pod_of(each)["serviceAccountName"] for each in workloads] == [
        each["ServiceAccount"]["metadata"]["name"] for each in built
    ]
    assert claim(workloads[0], "state") == {"claimName": "photos-truecopy-state"}
