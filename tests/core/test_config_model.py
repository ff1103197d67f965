"""What configurations are accepted, and what they mean."""

import pytest
from pydantic import ValidationError

from job.core.config.model import Config, PairConfig

WINDOWS = {
    "run_enabled": "N",
    "source_dirs": ["C:\\Users\\me\\Music", "C:/Users/me/Pictures"],
    "dest_dirs": ["D:\\Backup\\Music", "\\\\nas\\backup\\Pictures"],
    "log_file": "backup.log",
    "error_log_file": "error.log",
    "sleep_time": 30,
}


def test_the_six_keys_are_enough() -> None:
    config = Config.model_validate(
        {
            "run_enabled": "Y",
            "source_dirs": ["/source/music"],
            "dest_dirs": ["/backup/music"],
            "log_file": "backup.log",
            "error_log_file": "error.log",
            "sleep_time": 30,
        }
    )

    (pair,) = config.effective_pairs
    assert config.enabled
    assert (pair.name, pair.source, pair.dest, pair.checksum) == ("music", "/source/music", "/backup/music", "sha256")


@pytest.mark.parametrize("text", ["N", "n", "y", "Yes", "true", ""])
def test_only_the_text_y_runs(text: str) -> None:
    assert not Config(run_enabled=text).enabled


def test_a_disabled_run_may_keep_its_windows_paths() -> None:
    config = Config.model_validate(WINDOWS)

    assert not config.enabled
    assert [pair.name for pair in config.effective_pairs] == ["music", "pictures"]


def test_a_disabled_run_needs_no_folders() -> None:
    assert Config(run_enabled="N").effective_pairs == ()


def test_the_options_of_a_pair_win_over_the_general_ones() -> None:
    config = Config(
        exclude=("*.tmp",),
        rate_limit=1000,
        checksum="md5",
        pairs=(
            PairConfig(source="/a", dest="/x", exclude=(), rate_limit=5),
            PairConfig(source="/b", dest="/y", name="second", audit_interval=0),
        ),
    )

    first, second = config.effective_pairs
    assert (first.name, first.exclude, first.rate_limit, first.checksum) == ("a", (), 5, "md5")
    assert (second.name, second.exclude, second.audit_interval) == ("second", ("*.tmp",), 0)


@pytest.mark.parametrize("pattern", ["[[]*", "*.tmp", "!/keep", "#comment", " ", "ä/**/ö"])
def test_gitignore_patterns_are_taken(pattern: str) -> None:
    assert Config(run_enabled="N", exclude=(pattern,)).exclude == (pattern,)


def test_a_config_cannot_be_changed() -> None:
    config = Config(run_enabled="N")

    with pytest.raises(ValidationError):
        config.run_enabled = "Y"  # type: ignore[misc]


def test_an_error_never_prints_what_was_written() -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"run_enabled": "N", "metrics": {"pushgateway_password": ["hunter2"]}})

    assert "hunter2" not in str(caught.value)
