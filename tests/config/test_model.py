"""What configurations are accepted, and what they mean."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from job.config.model import WrittenConfig
from tests.config.configs import to_settings

WINDOWS = {
    "run_enabled": "N",
    "source_dirs": ["C:\\Users\\me\\Music", "C:/Users/me/Pictures"],
    "dest_dirs": ["D:\\Backup\\Music", "\\\\nas\\backup\\Pictures"],
    "log_file": "backup.log",
    "error_log_file": "error.log",
    "sleep_time": 30,
}


def test_the_six_keys_are_enough() -> None:
    config = to_settings(
        run_enabled="Y",
        source_dirs=["/source/music"],
        dest_dirs=["/backup/music"],
        log_file="backup.log",
        error_log_file="error.log",
        sleep_time=30,
    )

    (pair,) = config.effective_pairs
    assert config.enabled
    assert (pair.name, pair.source, pair.dest, pair.checksum) == ("music", "/source/music", "/backup/music", "sha256")


@pytest.mark.parametrize("text", ["N", "n", "y", "Yes", "true", ""])
def test_only_the_text_y_runs(text: str) -> None:
    assert not to_settings(run_enabled=text).enabled


def test_a_disabled_run_may_keep_its_windows_paths() -> None:
    config = to_settings(**WINDOWS)

    assert not config.enabled
    assert [pair.name for pair in config.effective_pairs] == ["music", "pictures"]


def test_a_disabled_run_needs_no_folders() -> None:
    assert to_settings(run_enabled="N").effective_pairs == ()


def test_the_options_of_a_pair_win_over_the_general_ones() -> None:
    config = to_settings(
        exclude=["*.tmp"],
        rate_limit=1000,
        checksum="md5",
        pairs=[
            {"source": "/a", "dest": "/x", "exclude": [], "rate_limit": 5},
            {"source": "/b", "dest": "/y", "name": "second", "audit_interval": 0},
        ],
    )

    first, second = config.effective_pairs
    assert (first.name, first.exclude, first.rate_limit, first.checksum) == ("a", (), 5, "md5")
    assert (second.name, second.exclude, second.audit_interval) == ("second", ("*.tmp",), 0)


def test_how_many_processes_share_the_work_is_left_open_unless_it_is_written() -> None:
    silent, told = (
        to_settings(run_enabled="N"),
        to_settings(run_enabled="N", workers=3, workers_from=0, io_priority="idle"),
    )

    assert (silent.workers, silent.workers_from, silent.io_priority) == (None, 2000, "normal")
    assert (told.workers, told.workers_from, told.io_priority) == (3, 0, "idle")


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"workers": 65}, {"workers": True}, {"workers_from": -1}])
def test_a_number_of_processes_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WrittenConfig.model_validate({"run_enabled": "N", **wrong})


def test_what_is_in_force_holds_a_secret_but_does_not_print_it() -> None:
    metrics = to_settings(
        run_enabled="N", metrics={"pushgateway_username": "me", "pushgateway_password": "hunter2"}
    ).metrics

    assert metrics.pushgateway_password == "hunter2"
    assert "hunter2" not in repr(metrics)


@pytest.mark.parametrize("pattern", ["[[]*", "*.tmp", "!/keep", "#comment", " ", "ä/**/ö"])
def test_gitignore_patterns_are_taken(pattern: str) -> None:
    assert WrittenConfig(run_enabled="N", exclude=(pattern,)).exclude == (pattern,)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("!", "nothing follows the '!'"),
        ("docs[0-9", "a '[' in it has no ']'"),
        ("a[[:number:]]", "is none of alnum, alpha"),
        ("docs\\", "ends with a backslash"),
        ("a\0b", "NUL"),
        ("\ud800", "half a character"),
    ],
)
def test_a_pattern_that_can_never_match_is_refused_with_the_reason(pattern: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(reason)):
        WrittenConfig(run_enabled="N", exclude=(pattern,))


def test_a_config_cannot_be_changed() -> None:
    config = to_settings(run_enabled="N")

    with pytest.raises(AttributeError):
        config.run_enabled = "Y"  # type: ignore[misc]


def test_an_error_never_prints_what_was_written() -> None:
    with pytest.raises(ValidationError) as caught:
        WrittenConfig.model_validate({"run_enabled": "N", "metrics": {"pushgateway_password": ["hunter2"]}})

    assert "hunter2" not in str(caught.value)
