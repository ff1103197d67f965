"""Environment variables and secret files over the configuration file."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.adapters.settings import Settings, read_settings
from job.errors import ConfigError

SIX: dict[str, Any] = {
    "run_enabled": "Y",
    "source_dirs": ["/source/music"],
    "dest_dirs": ["/backup/music"],
    "log_file": "backup.log",
    "error_log_file": "error.log",
    "sleep_time": 30,
}


def read(folder: Path, content: str | dict[str, Any], environ: dict[str, str]) -> Settings:
    path = folder / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(0o644)
    return read_settings(str(path), environ)


def faults(folder: Path, content: str | dict[str, Any], environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read(folder, content, environ)
    return caught.value.faults


def the_fault(folder: Path, content: str | dict[str, Any], environ: dict[str, str]) -> str:
    (fault,) = faults(folder, content, environ)
    return fault


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    environ = {
        "TRUECOPY_SLEEP_TIME": "15 minutes",
        "TRUECOPY_METRICS_PORT": "9500",
        "TRUECOPY_METRICS_ENABLED": "false",
        "TRUECOPY_EXCLUDE": '["*.tmp"]',
        "TRUECOPY_LOG_FILE": "/logs/x.log",
        "TRUECOPY_LOG_LEVEL": "",
        "TRUECOPY_CONFIG": "passed over",
        "PATH": "/bin",
    }

    found = read(tmp_path, SIX | {"metrics": {"address": "::1"}}, environ)

    assert (found.config.sleep_time, found.config.metrics.port, found.config.metrics.enabled) == (900, 9500, False)
    assert (found.config.effective_pairs[0].exclude, found.config.log_file, found.config.log_level) == (
        ("*.tmp",),
        "/logs/x.log",
        "info",
    )
    assert found.origins["sleep_time"] == "env TRUECOPY_SLEEP_TIME"
    assert found.origins["metrics.port"] == "env TRUECOPY_METRICS_PORT"
    assert found.origins["metrics.address"] == "file"


def test_pairs_can_come_from_the_environment(tmp_path: Path) -> None:
    environ = {"TRUECOPY_PAIRS": '[{"source": "/a", "dest": "/b", "rate_limit": "1MiB"}]'}

    (pair,) = read(tmp_path, {}, environ).config.effective_pairs

    assert (pair.name, pair.rate_limit) == ("a", 1024 * 1024)


def test_a_fault_in_a_variable_names_it(tmp_path: Path) -> None:
    environ = {"TRUECOPY_SLEEP_TIME": "soon", "TRUECOPY_METRICS_PORT": "x", "TRUECOPY_EXCLUDE": "*.tmp"}

    told = faults(tmp_path, SIX, environ)

    assert told[0].startswith("exclude (from TRUECOPY_EXCLUDE): not JSON; write a list such as")
    assert told[1].startswith('sleep_time (from TRUECOPY_SLEEP_TIME) = "soon": not an amount')
    assert told[2].startswith('metrics.port (from TRUECOPY_METRICS_PORT) = "x": not a whole number')


def test_an_unknown_variable_names_the_nearest(tmp_path: Path) -> None:
    told = the_fault(tmp_path, SIX, {"TRUECOPY_METRIC_PORT": "1"})

    assert told == "TRUECOPY_METRIC_PORT: unknown variable; the nearest known one is TRUECOPY_METRICS_PORT"


def test_the_variables_kubernetes_adds_for_a_service_are_passed_over(tmp_path: Path) -> None:
    environ = {
        "TRUECOPY_SERVICE_HOST": "10.0.0.1",
        "TRUECOPY_SERVICE_PORT_METRICS": "9477",
        "TRUECOPY_PORT": "tcp://10.0.0.1:9477",
        "TRUECOPY_PORT_9477_TCP_ADDR": "10.0.0.1",
        "TRUECOPY_METRICS_PORT": "tcp://10.0.0.1:9477",
    }

    assert read(tmp_path, SIX, environ).config.metrics.port == 9477


def test_a_secret_comes_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(" hunter2 \n")
    environ = {
        "TRUECOPY_METRICS_PUSHGATEWAY_USERNAME": "me",
        "TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD_FILE": str(secret),
    }

    found = read(tmp_path, SIX, environ)

    assert found.config.metrics.pushgateway_password == " hunter2 "
    assert found.origins["metrics.pushgateway_password"] == f"secret file {secret}"
    assert "hunter2" not in repr(found)


def test_the_digest_changes_with_a_secret(tmp_path: Path) -> None:
    secret = tmp_path / "level"
    environ = {"TRUECOPY_LOG_LEVEL_FILE": str(secret)}
    secret.write_text("info")
    first = read(tmp_path, SIX, environ).digest
    secret.write_text("debug")

    second = read(tmp_path, SIX, environ)

    assert second.config.log_level == "debug"
    assert second.digest != first


def test_a_secret_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    told = the_fault(tmp_path, SIX, {"TRUECOPY_LOG_LEVEL_FILE": str(tmp_path / "none")})

    assert told.startswith(f'log_level (from TRUECOPY_LOG_LEVEL_FILE) = "{tmp_path}/none": this file cannot be read')


def test_a_variable_and_its_twin_at_once_are_a_fault(tmp_path: Path) -> None:
    told = the_fault(tmp_path, SIX, {"TRUECOPY_LOG_LEVEL": "info", "TRUECOPY_LOG_LEVEL_FILE": "/x"})

    assert told.startswith("log_level (from TRUECOPY_LOG_LEVEL): TRUECOPY_LOG_LEVEL_FILE is set as well")


def test_faults_of_file_and_environment_are_told_together(tmp_path: Path) -> None:
    told = faults(tmp_path, "{", {"TRUECOPY_COLOUR": "red"})

    assert [fault.split(":")[0] for fault in told] == ["line 1, column 2", "TRUECOPY_COLOUR"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["TRUECOPY_PAIRS", "TRUECOPY_SLEEP_TIME", "TRUECOPY_METRICS_PORT", "TRUECOPY_X", "TRUECOPY_"]),
        st.text(max_size=20),
    )
)
def test_any_environment_is_followed_or_refused(tmp_path: Path, environ: dict[str, str]) -> None:
    told: tuple[str, ...] = ()

    try:
        read(tmp_path, SIX, environ)
    except ConfigError as error:
        told = error.faults

    assert all("TRUECOPY_" in fault for fault in told if not fault.startswith("pairs"))
