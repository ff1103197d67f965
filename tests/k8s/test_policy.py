"""What schemas do not check: allowed words, Pod Security *restricted*, and that the job understands its manifest."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

import job
from job.config import describe
from job.config.model import MetricsConfig
from job.errors import Exit
from tests.config.configs import to_settings

K8S = Path(__file__).parents[2] / "k8s"
Manifest = dict[str, Any]
CRON_FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def longest_wait(line: str) -> float:
    """Give the longest time in seconds between two times of a cron line, over a year."""
    minute, hour, day, month, weekday = line.split()

    def fits(field: str, number: int) -> bool:
        return field == "*" or int(field) == number

    start = datetime(2026, 1, 1, tzinfo=UTC)
    moments = (start + timedelta(hours=number) for number in range(365 * 24))
    times = [
        moment
        for moment in moments
        if fits(hour, moment.hour) and fits(day, moment.day) and fits(month, moment.month)
        if weekday == "*" or int(weekday) % 7 == moment.isoweekday() % 7
    ]
    assert minute != "*", "more often than every hour"
    return max((later - earlier).total_seconds() for earlier, later in pairwise(times))


def test_words_that_kubernetes_would_refuse_only_on_apply(cronjob: Manifest, deployment: Manifest) -> None:
    spec = cronjob["spec"]["jobTemplate"]["spec"]

    assert cronjob["spec"]["concurrencyPolicy"] in {"Allow", "Forbid", "Replace"}
    assert spec["template"]["spec"]["restartPolicy"] in {"Never", "OnFailure"}
    assert {rule["action"] for rule in spec["podFailurePolicy"]["rules"]} <= {"FailJob", "FailIndex", "Ignore", "Count"}
    assert {rule["onExitCodes"]["operator"] for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule} <= {
        "In",
        "NotIn",
    }
    assert deployment["spec"]["strategy"]["type"] in {"Recreate", "RollingUpdate"}


def test_two_runs_never_overlap_and_missed_ones_do_not_stop_the_schedule(
    cronjob: Manifest, deployment: Manifest
) -> None:
    assert cronjob["spec"]["concurrencyPolicy"] == "Forbid"
    assert cronjob["spec"]["startingDeadlineSeconds"] > 10
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})


def test_the_schedule_is_a_cron_line_in_a_zone_that_exists(cronjob: Manifest) -> None:
    fields = cronjob["spec"]["schedule"].split()

    assert len(fields) == len(CRON_FIELDS)
    for field, (lowest, highest) in zip(fields, CRON_FIELDS, strict=True):
        assert re.fullmatch(r"\*|\d+", field)
        assert field == "*" or lowest <= int(field) <= highest
    assert int(fields[0]) != 0
    assert ZoneInfo(cronjob["spec"]["timeZone"]).key == cronjob["spec"]["timeZone"]


@pytest.mark.parametrize(
    ("line", "days"),
    [("17 2 * * *", 1), ("47 3 * * 0", 7), ("47 3 * * 7", 7), ("0 6 1 * *", 31), ("5 * * * *", 1 / 24)],
)
def test_the_longest_wait_of_a_cron_line_is_computed_right(line: str, days: float) -> None:
    assert longest_wait(line) == days * 86400


def test_the_interval_beside_the_schedule_is_the_schedule_s(cronjob: Manifest) -> None:
    [container] = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    [beside] = [each["value"] for each in container["env"] if each["name"] == "TRUECOPY_EXPECTED_INTERVAL"]

    config = to_settings(source_dirs=["/s"], dest_dirs=["/d"], expected_interval=beside)
    assert config.expected_interval == longest_wait(cronjob["spec"]["schedule"])


def test_every_variable_of_a_pod_is_a_setting_or_stands_in_one(container: Manifest) -> None:
    variables = container.get("env", [])
    names = [each["name"] for each in variables]
    used = {name for each in variables for name in re.findall(r"\$\((\w+)\)", each.get("value", ""))}

    settings = {key.variable for key in describe.all_keys()}
    assert {name for name in names if name.startswith("TRUECOPY_")} <= settings
    assert {name for name in names if not name.startswith("TRUECOPY_")} == used
    # Kubernetes replaces only what stands above.
    assert all(names.index(name) < names.index("TRUECOPY_METRICS_PUSHGATEWAY_INSTANCE") for name in used)


def test_a_run_that_finds_the_lock_held_does_not_fail_its_job(cronjob: Manifest) -> None:
    spec = cronjob["spec"]["jobTemplate"]["spec"]
    [container] = spec["template"]["spec"]["containers"]

    assert container["args"] == ["run", "--once", "--skip-if-busy"]
    codes = [
        code for rule in spec["podFailurePolicy"]["rules"] for code in rule.get("onExitCodes", {"values": []})["values"]
    ]
    assert Exit.BUSY not in codes


def test_a_restore_runs_once_as_the_user_of_the_backup_with_its_volumes(cronjob: Manifest, restore: Manifest) -> None:
    pod, backup = restore["spec"]["template"]["spec"], cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    mounts = pod["containers"][0]["volumeMounts"]
    args = pod["containers"][0]["args"]

    assert restore["spec"]["backoffLimit"] == 0
    assert pod["securityContext"] == backup["securityContext"]
    assert [each for each in mounts if each["name"] != "restored"] == backup["containers"][0]["volumeMounts"]
    assert [each for each in pod["volumes"] if each["name"] != "restored"] == backup["volumes"]
    assert args[args.index("--to") + 1] in {each["mountPath"] for each in mounts if each["name"] == "restored"}


def test_a_run_that_cannot_be_mended_by_repeating_is_not_repeated(cronjob: Manifest) -> None:
    spec = cronjob["spec"]["jobTemplate"]["spec"]

    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "truecopy", "operator": "In", "values": [Exit.USAGE, Exit.REFUSED]},
        },
    ]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert 1 <= spec["backoffLimit"] <= 2
    assert spec["activeDeadlineSeconds"] > 3600


def test_the_pod_fits_pod_security_restricted(pod: Manifest, container: Manifest) -> None:
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all("hostPath" not in volume for volume in pod["volumes"])
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_pod_gets_no_token_and_no_settings_by_accident(pod: Manifest) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False


def test_memory_is_bounded_and_what_it_needs_is_asked_for(container: Manifest) -> None:
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["resources"]["limits"].keys() == {"memory"}


def test_the_source_is_read_only_at_the_claim_and_at_the_mount(pod: Manifest, container: Manifest) -> None:
    [volume] = [each for each in pod["volumes"] if each["name"] == "source"]
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "source"]

    assert volume["persistentVolumeClaim"]["readOnly"] is True
    assert mount["readOnly"] is True


def test_no_image_is_taken_by_a_tag_that_moves() -> None:
    for path in K8S.rglob("kustomization.yaml"):
        assert re.findall(r"newTag: (\S+)", path.read_text("utf-8")) == [job.__version__]
    for path in K8S.rglob("*.yaml"):
        assert ":latest" not in path.read_text("utf-8")


def test_the_configuration_is_one_that_the_job_accepts_on_the_mounts_it_gets(container: Manifest) -> None:
    config = to_settings(**json.loads((K8S / "base" / "backup_config.json").read_text("utf-8")))

    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {pair.source for pair in config.effective_pairs} <= mounts
    assert {pair.dest for pair in config.effective_pairs} <= mounts
    assert config.state_dir in mounts
    assert config.log_file is None, "a pod logs to standard output"


def test_the_arguments_are_the_command_lines(container: Manifest) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "job", *container["args"], "--help"], capture_output=True, text=True, check=False
    )

    assert run.returncode == Exit.OK, run.stderr


def test_the_probes_run_the_command_and_need_no_port(deployment: Manifest) -> None:
    [container] = deployment["spec"]["template"]["spec"]["containers"]

    for probe in (container["livenessProbe"], container["readinessProbe"]):
        assert not {"httpGet", "tcpSocket", "grpc"} & probe.keys()
        assert probe["exec"]["command"] == ["truecopy", "healthcheck"]
        assert probe["timeoutSeconds"] >= 5, "a Python has to start"
    assert container["ports"] == [{"name": "metrics", "containerPort": MetricsConfig().port}]


def manifests_of(kustomization: Path) -> list[Manifest]:
    """Give what a variant adds of its own."""
    names = yaml.safe_load(kustomization.read_text("utf-8"))["resources"]
    files = [path for path in (kustomization.parent / name for name in names) if path.is_file()]
    return [manifest for path in files for manifest in yaml.safe_load_all(path.read_text("utf-8"))]


def test_every_variant_that_opens_a_port_says_who_may_connect_to_it() -> None:
    opened = []
    for kustomization in K8S.rglob("kustomization.yaml"):
        manifests = manifests_of(kustomization)
        pods = [each["spec"]["template"] for each in manifests if "template" in each.get("spec", {})]
        ports = [(pod, found) for pod in pods if (found := pod["spec"]["containers"][0].get("ports", []))]
        for pod, [port] in ports:
            opened.append(kustomization.parent.name)
            [policy] = [each["spec"] for each in manifests if each["kind"] == "NetworkPolicy"]
            assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
            assert policy["policyTypes"] == ["Ingress"]
            [rule] = policy["ingress"]
            assert rule["ports"] == [{"protocol": "TCP", "port": port["name"]}]
            assert rule["from"], "an empty list is everybody"
            assert all(peer["namespaceSelector"].get("matchLabels") for peer in rule["from"])
    assert opened == ["deployment"]


def test_metrics_of_a_pod_that_is_not_ready_are_found() -> None:
    service = yaml.safe_load((K8S / "deployment" / "service.yaml").read_text("utf-8"))

    assert service["spec"]["publishNotReadyAddresses"] is True


@pytest.mark.parametrize("code", [code for code in Exit if code is not Exit.INTERRUPTED])
def test_the_readme_says_what_each_exit_code_means_here(code: Exit) -> None:
    assert f"\n| {code.value} |" in (K8S / "README.md").read_text("utf-8")
