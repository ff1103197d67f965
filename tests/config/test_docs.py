"""What is committed in `config/` is what the model says."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from job.config import describe
from job.config.model import PairConfig, WrittenConfig
from job.core.redaction import MASK
from tests.config.configs import to_settings
from tests.repo.config_keys import field_of, words_of

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"


def dotted(mapping: dict[str, Any]) -> set[str]:
    inner = {f"{table}.{name}" for table in describe.TABLES for name in mapping.get(table, {})}
    return {name for name in mapping if name not in describe.TABLES} | inner


def full_example(*, everything: bool) -> dict[str, Any]:
    text = (CONFIG / "backup_config.full.toml").read_text("utf-8")
    return tomllib.loads(re.sub(r"(?m)^# (\[\[\w+\]\]$|\w+ = )", r"\1", text) if everything else text)


def test_the_generated_docs_are_up_to_date() -> None:
    found = subprocess.run(
        [sys.executable, str(ROOT / "tests/repo/generate.py"), "--check"], capture_output=True, text=True, check=False
    )

    assert (found.returncode, found.stderr) == (0, "")


def test_the_sample_has_just_the_six_keys_and_is_valid() -> None:
    raw = json.loads((CONFIG / "backup_config.json").read_text("utf-8"))

    config = to_settings(**raw)

    assert list(raw) == ["run_enabled", "source_dirs", "dest_dirs", "log_file", "error_log_file", "sleep_time"]
    assert config.enabled


@pytest.mark.parametrize("everything", [True, False])
def test_the_full_example_is_valid_as_it_is_and_with_every_key_taken_in(everything: bool) -> None:  # noqa: FBT001
    raw = full_example(everything=everything)

    assert to_settings(**raw).enabled


def test_the_full_example_has_every_key_and_its_default() -> None:
    everything = full_example(everything=True)
    defaults = describe.values_of(WrittenConfig(run_enabled="N"))
    own = {"run_enabled", "log_file", "error_log_file", "pairs"}

    told = describe.values_of(WrittenConfig.model_validate(full_example(everything=False)))

    assert dotted(everything) == {key.name for key in describe.all_keys()}
    assert set(everything["pairs"][1]) == set(PairConfig.model_fields)
    assert {key: told[key] for key in told if key not in own} == {key: defaults[key] for key in told if key not in own}


def test_every_key_has_a_meaning_and_its_own_variable() -> None:
    keys = describe.all_keys()

    assert all(field_of(key).description for key in keys)
    assert all(words_of(field) for field in (*map(field_of, keys), *PairConfig.model_fields.values()))
    variables = [name for key in keys for name in (key.variable, f"{key.variable}_FILE")]
    assert len(set(variables)) == len(variables)


@pytest.mark.parametrize("name", ["backup_config.json", "backup_config.full.toml"])
def test_the_schema_accepts_what_is_shipped(name: str) -> None:
    text = (CONFIG / name).read_text("utf-8")
    raw = json.loads(text) if name.endswith(".json") else tomllib.loads(text)

    jsonschema.Draft202012Validator(describe.schema()).validate(raw)


@pytest.mark.parametrize(
    "raw",
    [
        {"sleep_time": "6h", "rate_limit": "10MiB", "$schema": "./backup_config.schema.json"},
        {"audit_interval": 0, "metrics": {"port": 1, "textfile": None}},
    ],
)
def test_the_schema_accepts_what_the_model_does(raw: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(describe.schema()).validate(raw)
    WrittenConfig.model_validate({"run_enabled": "N"} | {key: value for key, value in raw.items() if key != "$schema"})


@pytest.mark.parametrize(
    "raw",
    [
        {"colour": 1},
        {"metrics": {"port": 0}},
        {"checksum": "sha1"},
        {"run_enabled": True},
        {"pairs": [{"source": "/a"}]},
    ],
)
def test_the_schema_refuses_what_the_model_does(raw: dict[str, Any]) -> None:
    schema = jsonschema.Draft202012Validator(describe.schema())

    with pytest.raises(jsonschema.ValidationError):
        schema.validate(raw)
    with pytest.raises(ValidationError):
        WrittenConfig.model_validate({"run_enabled": "N"} | raw)


def test_the_schema_is_itself_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(describe.schema())


def test_no_secret_is_in_what_is_shown() -> None:
    login = {"pushgateway_username": "me", "pushgateway_password": "hunter2"}

    shown = describe.values_of(WrittenConfig.model_validate({"run_enabled": "N", "metrics": login}))

    assert shown["metrics.pushgateway_password"] == MASK
    assert "hunter2" not in str(shown)


def test_the_sample_files_have_one_of_each_kind() -> None:
    sample = CONFIG / "sample"
    found = list(sample.rglob("*"))

    links = [path for path in found if path.is_symlink()]
    assert [link.resolve().is_relative_to(sample) for link in links] == [True]
    assert any(path.is_file() and path.stat().st_size == 0 for path in found)
    assert any(path.is_dir() for path in found)
    assert any(" " in path.name and not path.name.isascii() for path in found)
