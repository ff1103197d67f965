"""`truecopy config`, its output and its errors."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from job.cli.config import config
from job.cli.main import Context
from job.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SIX: dict[str, Any] = {
    "run_enabled": "Y",
    "source_dirs": ["/source/music", "/source/photos"],
    "dest_dirs": ["/backup/music", "/backup/photos"],
    "log_file": "backup.log",
    "error_log_file": "error.log",
    "sleep_time": 30,
}


def written(folder: Path, content: dict[str, Any]) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(content))
    path.chmod(0o644)
    return str(path)


def call(path: str, *arguments: str, environ: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(config, arguments, obj=Context(config_path=path, environ=environ or {}))


def test_check_says_that_it_is_fine_and_lists_the_pairs(tmp_path: Path) -> None:
    path = written(tmp_path, SIX)

    result = call(path, "check")

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{path}: fine, 2 pairs",
        "  music: /source/music -> /backup/music",
        "  photos: /source/photos -> /backup/photos",
    ]


def test_check_tells_that_a_run_is_disabled(tmp_path: Path) -> None:
    path = written(tmp_path, {"run_enabled": "N", "source_dirs": ["C:\\Music"], "dest_dirs": ["D:\\Music"]})

    result = call(path, "check")

    assert result.stdout.splitlines()[0] == f'{path}: fine, 1 pair, disabled (run_enabled is not "Y")'


def test_check_raises_every_fault_at_once(tmp_path: Path) -> None:
    result = call(written(tmp_path, SIX | {"dest_dirs": [], "sleep_tme": 1}), "check")

    assert isinstance(result.exception, ConfigError)
    assert len(result.exception.faults) == 2


def test_show_lists_every_key_with_value_and_origin(tmp_path: Path) -> None:
    path = written(tmp_path, SIX)
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    environ = {
        "TRUECOPY_JITTER": "1m",
        "TRUECOPY_METRICS_PUSHGATEWAY_USERNAME": "me",
        "TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD_FILE": str(secret),
    }

    result = call(path, "show", environ=environ)

    rows = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    table = {name: rest.split() for name, rest in rows}
    assert table["sleep_time"] == ["30", "file"]
    assert table["jitter"] == ["60", "env", "TRUECOPY_JITTER"]
    assert table["checksum"] == ['"sha256"', "default"]
    assert table["state_dir"] == ["-", "default"]
    assert table["metrics.pushgateway_password"] == ['"********"', "secret", "file", str(secret)]
    assert "hunter2" not in result.output


def test_show_gives_json_with_the_pairs_as_they_are_in_force(tmp_path: Path) -> None:
    result = call(written(tmp_path, SIX), "show", "--json")

    told = json.loads(result.stdout)
    assert told["keys"]["sleep_time"] == {"value": 30, "origin": "file"}
    assert [pair["name"] for pair in told["pairs"]] == ["music", "photos"]
    assert told["pairs"][0]["checksum"] == "sha256"


def test_schema_prints_what_is_committed() -> None:
    result = call("no such file", "schema")

    assert result.stdout == (ROOT / "config/backup_config.schema.json").read_text("utf-8")


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_missing_file_is_told(tmp_path: Path, command: str) -> None:
    result = call(str(tmp_path / "none.json"), command)

    assert isinstance(result.exception, ConfigError)
    assert "there is no configuration file" in result.exception.message
