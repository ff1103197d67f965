"""Dockerfile, compose file, manifests and the job say the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import job
from job.config import describe
from job.config.model import MetricsConfig
from job.config.settings import OWNER
from job.errors import Exit
from tests.config.configs import to_settings

ROOT = Path(__file__).parents[2]
PORT = MetricsConfig().port
WORKDIR = "/truecopy"


@pytest.fixture
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text("utf-8")


@pytest.fixture
def service() -> dict[str, Any]:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    found = compose["services"]["truecopy"]
    assert isinstance(found, dict)
    return found


@pytest.fixture
def pods() -> list[dict[str, Any]]:
    cronjob = yaml.safe_load((ROOT / "k8s/base/cronjob.yaml").read_text("utf-8"))
    deployment = yaml.safe_load((ROOT / "k8s/deployment/deployment.yaml").read_text("utf-8"))
    specs = (cronjob["spec"]["jobTemplate"]["spec"], deployment["spec"])
    return [spec["template"]["spec"] for spec in specs]


def image_variables(dockerfile: str) -> dict[str, str]:
    [block] = re.findall(r"^ENV ((?:.*\\\n)*.*)$", dockerfile, re.MULTILINE)
    return dict(re.findall(r"(\w+)=(\S+)", block))


def test_everybody_means_the_same_port(dockerfile: str, service: dict[str, Any], pods: list[dict[str, Any]]) -> None:
    service_file = yaml.safe_load((ROOT / "k8s/deployment/service.yaml").read_text("utf-8"))

    assert re.findall(r"^EXPOSE (\d+)", dockerfile, re.MULTILINE) == [str(PORT)]
    assert service["ports"] == [f"127.0.0.1:${{METRICS_PORT:-{PORT}}}:{PORT}"]
    assert [port["containerPort"] for port in pods[1]["containers"][0]["ports"]] == [PORT]
    assert [port["port"] for port in service_file["spec"]["ports"]] == [PORT]


def test_everybody_means_the_same_user(dockerfile: str, pods: list[dict[str, Any]]) -> None:
    [user] = re.findall(r"^USER (\d+):\d+$", dockerfile, re.MULTILINE)

    for pod in pods:
        context = pod["securityContext"]
        assert {context["runAsUser"], context["runAsGroup"], context["fsGroup"]} == {int(user)}


def test_every_variable_is_a_setting_of_the_job(dockerfile: str, service: dict[str, Any]) -> None:
    known = {key.variable for key in describe.all_keys()} | {"TRUECOPY_CONFIG", OWNER}

    ours = {name for name in image_variables(dockerfile) if name.startswith("TRUECOPY_")}
    assert ours <= known
    assert {name for name in service["environment"] if name.startswith("TRUECOPY_")} <= known


def test_no_password_of_others_is_passed_on_with_the_file_of_variables(service: dict[str, Any]) -> None:
    substituted = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text("utf-8")))

    assert service["env_file"] == [{"path": ".env", "required": False}]
    emptied = {name for name, value in service["environment"].items() if value == ""}
    assert emptied == {name for name in substituted if re.search("PASSWORD|SECRET|TOKEN|KEY", name)}


IMAGE_BY_DIGEST = re.compile(r"([\w./-]+):([\w.-]+)@sha256:([0-9a-f]{64})")


def images_of_others() -> dict[str, str]:
    """Give the tag of every image of somebody else's by its name; fails for one that is not named by digest."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    named = [service["image"] for name, service in compose.items() if name != "truecopy"]
    named += re.findall(r"^FROM (.*) AS base$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    found = {}
    for text in named:
        default = text.removesuffix("}").partition(":-")[2] if text.startswith("$") else text
        parts = IMAGE_BY_DIGEST.fullmatch(default)
        assert parts, f"{default} is not named by version and digest"
        found[parts[1]] = parts[2]
    return found


def test_images_of_others_are_named_by_digest_and_the_recipe_to_renew_them_names_them_all() -> None:
    recipe = (ROOT / "CONTRIBUTING.md").read_text("utf-8")

    images = images_of_others()

    assert images.keys() == {"python", "prom/prometheus", "grafana/grafana"}
    assert "latest" not in images.values()
    for name, tag in images.items():
        assert f"docker buildx imagetools inspect {name}:{tag} " in recipe


def test_every_stage_is_built_on_the_named_base(dockerfile: str) -> None:
    base, *stages = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)

    assert base.startswith("python:")
    assert stages == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    assert "\nARG PYTHON_IMAGE=base\n" in dockerfile


def test_dependabot_renews_the_images_of_each_file_that_names_any() -> None:
    """It reads FROM lines and `image:`, also as the default of a variable; an ARG it does not read."""
    settings = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text("utf-8"))

    assert settings["version"] == 2
    assert {(each["package-ecosystem"], each["directory"]) for each in settings["updates"]} == {
        ("docker", "/"), ("docker-compose", "/")
    }  # fmt: skip


def test_compose_builds_on_the_base_of_the_dockerfile_unless_a_variable_names_another(service: dict[str, Any]) -> None:
    assert service["build"]["args"] == ["PYTHON_IMAGE"]


def test_whatever_pip_installs_from_a_registry_has_a_hash_and_runs_no_build() -> None:
    installs = []
    for name in ("Dockerfile", "Makefile", ".ci/run"):
        text = (ROOT / name).read_text("utf-8").replace("\\\n", " ")
        installs += [line for line in text.splitlines() if "pip install" in line]

    from_registry = [line for line in installs if "--editable ." not in line]
    assert len(from_registry) == 4
    assert all("--require-hashes" in line and "--only-binary :all:" in line for line in from_registry)
    [own] = [line for line in installs if line not in from_registry]
    assert "--no-deps" in own
    assert "--no-build-isolation" in own, "the build would fetch its tools without hashes"


def test_no_password_has_a_default() -> None:
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")

    assert set(re.findall(r"\$\{(\w*PASSWORD\w*)(.*?)\}", compose)) == {("GRAFANA_PASSWORD", ":-")}


def test_the_version_of_the_image_is_the_version_of_the_job(dockerfile: str) -> None:
    assert re.findall(r'image\.version="([^"]*)"', dockerfile) == [job.__version__]
    assert re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE) == ["PYTHON_IMAGE"]


def test_what_substitutes_in_the_compose_file_is_no_setting_by_name() -> None:
    """Somebody who exports such a variable must still be able to start the job natively, as with `OWNER`."""
    names = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text("utf-8")))

    assert {name for name in names if name.startswith("TRUECOPY_")} == {OWNER}


def test_the_config_of_the_image_means_the_folders_that_are_mounted(dockerfile: str, service: dict[str, Any]) -> None:
    config = to_settings(**json.loads((ROOT / "config/backup_config.json").read_text("utf-8")))

    targets = {volume["target"]: volume for volume in service["volumes"]}
    [pair] = config.effective_pairs
    assert targets[f"{WORKDIR}/{pair.source}"]["read_only"] is True
    assert "read_only" not in targets[f"{WORKDIR}/{pair.dest}"]
    assert config.log_file is not None
    assert str(Path(WORKDIR, config.log_file).parent) in targets
    assert image_variables(dockerfile)["TRUECOPY_STATE_DIR"] in targets
    assert str(Path(image_variables(dockerfile)["TRUECOPY_CONFIG"]).parent) in targets
    assert re.findall(r"^WORKDIR (.*)", dockerfile, re.MULTILINE)[-1] == WORKDIR


def test_every_mount_of_the_pods_is_one_of_the_compose_file(
    service: dict[str, Any], pods: list[dict[str, Any]]
) -> None:
    targets = {volume["target"] for volume in service["volumes"]} | {"/tmp"}

    for pod in pods:
        assert {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]} <= targets


def test_no_folder_is_made_by_docker(service: dict[str, Any]) -> None:
    binds = [volume for volume in service["volumes"] if volume["type"] == "bind"]

    assert all(volume["bind"] == {"create_host_path": False} for volume in binds)
    assert len(binds) == 4


def test_kubernetes_gives_up_on_the_codes_that_mean_so(pods: list[dict[str, Any]]) -> None:
    cronjob = yaml.safe_load((ROOT / "k8s/base/cronjob.yaml").read_text("utf-8"))
    rules = cronjob["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]

    [fail] = [rule for rule in rules if rule["action"] == "FailJob"]
    assert fail["onExitCodes"]["values"] == [Exit.USAGE, Exit.REFUSED]
    assert fail["onExitCodes"]["containerName"] == pods[0]["containers"][0]["name"]


def test_the_dockerfile_keeps_to_what_old_engines_understand(dockerfile: str) -> None:
    assert not re.search(r"^# *syntax", dockerfile, re.MULTILINE)
    assert not re.search(r"^[A-Z].*(<<|--link|--start-interval)", dockerfile, re.MULTILINE)


def test_the_build_context_holds_what_the_dockerfile_copies_and_no_more(dockerfile: str) -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}

    copied = set(re.findall(r"^COPY (?!--from)(?:--\S+ )?(\S+)", dockerfile, re.MULTILINE))
    assert "*" in lines
    assert copied == allowed
