import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from job.config import describe
from job.errors import Exit
from tests.container.engine import ROOT, USER, Project, checked, run
from tests.container.waiting import answers, eventually, page, value

pytestmark = pytest.mark.needs_docker


@pytest.fixture(scope="module")
def service(new_project: Callable[[], Project]) -> Project:
    """One running service for every test that does not stop it."""
    project = new_project()
    (project.folder / "data" / "source" / "first").write_text("1", "utf-8")
    project.up()
    return project


def test_the_service_becomes_healthy(service: Project) -> None:
    assert service.container()["State"]["Health"]["Status"] == "healthy"


def test_up_and_wait_takes_seconds(new_project: Callable[[], Project]) -> None:
    project = new_project()
    began = time.monotonic()

    project.up()

    assert time.monotonic() - began < 15, "half the interval of the health check"
    check = project.container()["Config"]["Healthcheck"]
    assert check["Test"] == ["CMD", "python", "-m", "job", "healthcheck"]
    assert (check["Interval"], check["StartInterval"]) == (30_000_000_000, 1_000_000_000)


def variables_of(project: Project) -> dict[str, str]:
    # One that is named in the compose file and set nowhere has no value.
    return dict(entry.split("=", 1) for entry in project.container()["Config"]["Env"] if "=" in entry)


def test_variables_of_the_env_file_reach_the_container_and_no_secret_of_others_does(
    new_project: Callable[[], Project],
) -> None:
    project = new_project()
    (project.folder / "config" / "password").write_text("one two\n", "utf-8")
    given = {
        "TRUECOPY_SCHEDULE": "daily at 02:30",
        "TRUECOPY_EXCLUDE": '["*.tmp", "/cache/"]',
        "TRUECOPY_METRICS_PUSHGATEWAY_USERNAME": "me",
        "TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD_FILE": "/truecopy/config/password",
    }
    others = {"GRAFANA_PASSWORD": "secret of grafana", "METRICS_PORT": str(project.port)}
    lines = [f"{name}={text}" for name, text in (given | others).items()]
    (project.folder / ".env").write_text("\n".join(lines) + "\n", "utf-8")

    project.up()

    found = variables_of(project)
    assert given.items() <= found.items()
    assert "secret of grafana" not in found.values()
    shown = checked(project.compose("exec", "-T", "truecopy", "truecopy", "config", "show"))
    for text in ("daily at 02:30", "*.tmp", "/cache/", "TRUECOPY_SCHEDULE"):
        assert text in shown


def test_every_key_of_the_configuration_can_stand_in_the_env_file(new_project: Callable[[], Project]) -> None:
    project = new_project()
    names = {name for key in describe.all_keys() for name in (key.variable, f"{key.variable}_FILE")}
    del project.env["TRUECOPY_SLEEP_TIME"]
    (project.folder / ".env").write_text("".join(f"{name}=of {name}\n" for name in sorted(names)), "utf-8")

    config = json.loads(checked(project.compose("config", "--format", "json")))

    environment = config["services"]["truecopy"]["environment"]
    assert {name: text for name, text in environment.items() if name in names} == {name: f"of {name}" for name in names}


def test_a_mistyped_variable_of_the_env_file_is_reported(new_project: Callable[[], Project]) -> None:
    project = new_project()
    (project.folder / ".env").write_text("TRUECOPY_SLEP_TIME=60\n", "utf-8")

    finished = project.once()

    assert finished.returncode == Exit.USAGE
    assert "TRUECOPY_SLEEP_TIME" in finished.stdout + finished.stderr


def test_the_shipped_interval_is_one_hour(new_project: Callable[[], Project]) -> None:
    project = new_project()
    del project.env["TRUECOPY_SLEEP_TIME"]
    (project.folder / "data" / "source" / "first").write_text("1", "utf-8")

    project.up()

    eventually(lambda: value(page(project.port, "/metrics"), "truecopy_next_cycle_timestamp_seconds"))
    metrics = page(project.port, "/metrics")
    assert value(metrics, "truecopy_schedule_interval_seconds") == 3600


def test_a_file_dropped_into_the_source_appears_in_the_mirror_as_the_user_s(service: Project) -> None:
    (service.folder / "data" / "source" / "new.txt").write_text("dropped", "utf-8")
    copy = service.folder / "data" / "mirror" / "new.txt"

    eventually(copy.exists)

    assert copy.read_text("utf-8") == "dropped"
    assert (copy.stat().st_uid, copy.stat().st_gid) == (USER, USER)
    assert (service.folder / "data" / "logs" / "backup.log").stat().st_uid == USER


def test_metrics_and_health_are_served_on_loopback_only(service: Project) -> None:
    eventually((service.folder / "data" / "mirror" / "first").exists)

    eventually(lambda: value(page(service.port, "/metrics"), "truecopy_files_copied_total") >= 1)

    assert page(service.port, "/healthz").startswith("healthy")
    bindings = service.container()["NetworkSettings"]["Ports"]["9477/tcp"]
    assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}


def test_the_service_has_no_capability_no_new_privileges_and_no_root_to_write_to(service: Project) -> None:
    status = checked(service.compose("exec", "-T", "truecopy", "cat", "/proc/1/status"))

    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert re.search(rf"^Uid:\s+{USER}\s", status, re.MULTILINE)
    assert service.compose("exec", "-T", "truecopy", "touch", "/truecopy/x").returncode != 0
    assert service.compose("exec", "-T", "truecopy", "touch", "/truecopy/data/source/x").returncode != 0
    assert service.compose("exec", "-T", "truecopy", "touch", "/truecopy/config/x").returncode != 0


def test_the_command_is_there_for_a_person(service: Project) -> None:
    facts = json.loads(checked(service.compose("exec", "-T", "truecopy", "truecopy", "status", "--json")))

    assert facts


def test_standard_output_is_one_json_object_a_line(service: Project) -> None:
    eventually((service.folder / "data" / "mirror" / "first").exists)

    facts = service.container()
    log = checked(run("docker", "logs", facts["Id"]))

    assert "service_started" in {json.loads(line)["event"] for line in log.splitlines()}
    assert facts["HostConfig"]["LogConfig"]["Config"] == {"max-file": "5", "max-size": "10m"}


def test_the_service_stops_at_once_with_0_and_keeps_its_counters(new_project: Callable[[], Project]) -> None:
    project = new_project()
    (project.folder / "data" / "source" / "first").write_text("1", "utf-8")
    project.up()
    eventually(lambda: value(page(project.port, "/metrics"), "truecopy_files_copied_total") == 1)

    # Compose kills what has not stopped by then, and that would show as exit code 137.
    checked(project.compose("stop", "--timeout", "5", "truecopy"))

    assert project.container()["State"]["ExitCode"] == 0
    checked(project.compose("start", "truecopy"))
    eventually(lambda: answers(project.port))
    assert value(page(project.port, "/metrics"), "truecopy_files_copied_total") == 1


@pytest.mark.parametrize("name", ["source", "mirror", "logs"])
def test_a_folder_that_is_not_there_stops_the_start_and_is_not_made(
    new_project: Callable[[], Project], name: str
) -> None:
    project = new_project()
    folder = project.folder / "data" / name
    folder.rmdir()

    refused = project.compose("up", "--detach", "--no-build", "truecopy")

    assert refused.returncode != 0
    assert str(folder) in refused.stderr
    assert not folder.exists()


def test_down_leaves_the_mirror_and_nothing_else(new_project: Callable[[], Project]) -> None:
    project = new_project()
    (project.folder / "data" / "source" / "first").write_text("1", "utf-8")
    checked(project.compose("up", "--detach", "--no-build", "truecopy"))
    copy = project.folder / "data" / "mirror" / "first"
    eventually(copy.exists)

    checked(project.compose("down", "--volumes", "--timeout", "5"))

    assert copy.read_text("utf-8") == "1"
    assert project.name not in checked(run("docker", "ps", "--all", "--format", "{{.Names}}"))
    assert project.name not in checked(run("docker", "volume", "ls", "--quiet"))


def test_another_base_is_passed_on_and_none_is_named_otherwise(new_project: Callable[[], Project]) -> None:
    project = new_project()

    def arguments() -> dict[str, str | None]:
        config = json.loads(checked(project.compose("config", "--format", "json")))
        return {name: text for name, text in config["services"]["truecopy"]["build"].get("args", {}).items() if text}

    assert arguments() == {}
    project.env["PYTHON_IMAGE"] = "mine:1"
    assert arguments() == {"PYTHON_IMAGE": "mine:1"}


def test_the_monitoring_profile_mounts_what_the_repository_ships(service: Project) -> None:
    config = json.loads(checked(service.compose("--profile", "monitoring", "config", "--format", "json")))

    assert config["services"].keys() == {"truecopy", "prometheus", "grafana"}
    for name in ("prometheus", "grafana"):
        for volume in config["services"][name]["volumes"]:
            if volume["type"] == "bind":
                relative = Path(volume["source"]).relative_to(service.folder)
                assert (ROOT / relative).is_dir(), relative
                assert volume["read_only"]
        assert {port["host_ip"] for port in config["services"][name]["ports"]} == {"127.0.0.1"}
