"""Environment variables and secret files over the configuration file."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.config import describe
from job.config.load import DescribedConfig, read_settings
from job.errors import ConfigError

SIX: dict[str, Any] = {
    "run_enabled": "Y",
    "source_dirs": ["/source/music"],
    "dest_dirs": ["/backup/music"],
    "log_file": "backup.log",
    "error_log_file": "error.log",
    "sleep_time": 30,
}


def read(folder: Path, content: str | dict[str, Any], environ: dict[str, str]) -> DescribedConfig:
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

    assert (found.loaded.config.sleep_time, found.loaded.config.metrics.port, found.loaded.config.metrics.enabled) == (
        900,
        9500,
        False,
    )
    assert (
        found.loaded.config.effective_pairs[0].exclude,
        found.loaded.config.log_file,
        found.loaded.config.log_level,
    ) == (
        ("*.tmp",),
        "/logs/x.log",
        "info",
    )
    assert found.origins["sleep_time"] == "env TRUECOPY_SLEEP_TIME"
    assert found.origins["metrics.port"] == "env TRUECOPY_METRICS_PORT"
    assert found.origins["metrics.address"] == "file"


def test_pairs_can_come_from_the_environment(tmp_path: Path) -> None:
    environ = {"TRUECOPY_PAIRS": '[{"source": "/a", "dest": "/b", "rate_limit": "1MiB"}]'}

    (pair,) = read(tmp_path, {}, environ).loaded.config.effective_pairs

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

    assert read(tmp_path, SIX, environ).loaded.config.metrics.port == 9477


def login(secret: Path | str) -> dict[str, str]:
    return {"TRUECOPY_METRICS_PUSHGATEWAY_USERNAME": "me", "TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD_FILE": str(secret)}


def test_a_secret_comes_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(" hunter2 \n")

    found = read(tmp_path, SIX, login(secret))

    assert found.loaded.config.metrics.pushgateway_password == " hunter2 "
    assert found.origins["metrics.pushgateway_password"] == f"secret file {secret}"
    assert "hunter2" not in repr(found)


def test_the_digest_changes_with_a_secret(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    environ = login(secret)
    secret.write_text("hunter2")
    first = read(tmp_path, SIX, environ).loaded.digest
    secret.write_text("hunter3")

    second = read(tmp_path, SIX, environ)

    assert second.loaded.config.metrics.pushgateway_password == "hunter3"
    assert second.loaded.digest != first


def test_a_secret_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    (told, _) = faults(tmp_path, SIX, login(tmp_path))

    place = "metrics.pushgateway_password (from TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD_FILE)"
    assert told.startswith(f"{place}: {tmp_path}: this file cannot be read: it is a folder")


def test_a_secret_in_place_of_the_path_of_its_file_is_not_shown(tmp_path: Path) -> None:
    (told, _) = faults(tmp_path, SIX, login("hunter2"))

    assert "this file cannot be read: No such file or directory" in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"hunter2\nhunter3\n", "more than one line"),
        (b"hunter2\r\nhunter3", "more than one line"),
        (b"hunter2\0", "more than one line"),
        (b"hunter2\xff", "not in UTF-8"),
        (b"hunter2" * 1000, "larger than 4096 bytes"),
    ],
)
def test_a_secret_is_one_line_of_text(tmp_path: Path, content: bytes, told: str) -> None:
    secret = tmp_path / "password"
    secret.write_bytes(content)

    (fault, _) = faults(tmp_path, SIX, login(secret))

    assert told in fault
    assert "hunter" not in fault


@pytest.mark.parametrize("content", [b"hunter2\nhunter3\n", b"hunter3\0", b"hunter3\xff", b"\n\n hunter3 \n\n"])
def test_what_a_file_holds_that_is_no_secret_is_not_shown_in_another_fault(tmp_path: Path, content: bytes) -> None:
    secret = tmp_path / "password"
    secret.write_bytes(content)

    told = faults(tmp_path, '{"exclude": ["hunter3["], "log_level": "hunter3"}', login(secret))

    assert len(told) >= 3
    assert "hunter" not in "".join(told)


@pytest.mark.parametrize("key", [key for key in describe.all_keys() if not key.is_secret], ids=lambda key: key.name)
def test_only_a_secret_may_come_from_a_file_and_no_other_file_is_opened(tmp_path: Path, key: describe.Key) -> None:
    secret = tmp_path / "shadow"
    secret.write_text("root:hunter2:19000")

    told = the_fault(tmp_path, SIX, {f"{key.variable}_FILE": str(secret)})

    assert told.startswith(f"{key.variable}_FILE: unknown variable; only secrets are read from files")
    assert told.endswith(f"give the value in {key.variable}")
    assert "hunter2" not in told


def test_a_variable_and_its_twin_at_once_are_a_fault(tmp_path: Path) -> None:
    both = {**login("/x"), "TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD": "hunter2"}

    (told, _) = faults(tmp_path, SIX, both)

    assert "TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD_FILE is set as well" in told
    assert "hunter2" not in told


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
