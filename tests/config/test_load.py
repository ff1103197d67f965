"""The configuration file, the environment over it and secrets from files: read together, faults told together."""

import grp  # noqa: F401  # while the interpreter's own folder can be read: a test becomes somebody else
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.config.load import DescribedConfig, read_settings
from job.errors import ConfigError, Exit

SIX: dict[str, Any] = {
    "run_enabled": "Y",
    "source_dirs": ["/source/music"],
    "dest_dirs": ["/backup/music"],
    "log_file": "backup.log",
    "error_log_file": "error.log",
    "sleep_time": 30,
}


def config_file(folder: Path, content: str | bytes | dict[str, Any], name: str = "config.json") -> str:
    path = folder / name
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o644)
    return str(path)


def read(folder: Path, content: str | bytes | dict[str, Any], environ: dict[str, str] | None = None) -> DescribedConfig:
    return read_settings(config_file(folder, content), environ or {})


def refused(
    folder: Path, content: Any, environ: dict[str, str] | None = None, name: str = "config.json"
) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_settings(config_file(folder, content, name), environ or {})
    assert caught.value.exit is Exit.USAGE
    assert all(fault.isprintable() for fault in caught.value.faults)
    return caught.value


def the_fault(folder: Path, content: Any, environ: dict[str, str] | None = None, name: str = "config.json") -> str:
    (fault,) = refused(folder, content, environ, name).faults
    return fault


def test_the_original_file_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, SIX)

    assert found.loaded.config.sleep_time == 30
    assert found.origins["sleep_time"] == "file"
    assert found.origins["checksum"] == "default"
    assert found.origins["metrics.port"] == "default"


def test_toml_says_the_same_as_json(tmp_path: Path) -> None:
    text = """
        source_dirs = ["/source/music"]
        dest_dirs = ["/backup/music"]
        log_file = "backup.log"
        error_log_file = "error.log"
        sleep_time = 30
    """

    found = read_settings(config_file(tmp_path, text, "config.toml"), {})

    assert found.loaded.config == read(tmp_path, SIX).loaded.config


def test_a_byte_order_mark_and_a_schema_key_are_passed_over(tmp_path: Path) -> None:
    found = read(tmp_path, b"\xef\xbb\xbf" + json.dumps(SIX | {"$schema": "./backup_config.schema.json"}).encode())

    assert found.loaded.config.enabled


def test_the_digest_changes_with_the_file(tmp_path: Path) -> None:
    first = read(tmp_path, SIX).loaded.digest

    assert read(tmp_path, SIX).loaded.digest == first
    assert read(tmp_path, SIX | {"sleep_time": 31}).loaded.digest != first


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ('{\n  "sleep_time": 30\n  "jitter": 0\n}', "line 3, column 3", "comma"),
        ('{\n  "log_file": "C:\\Users"\n}', "line 2, column 18", "each backslash twice"),
        ("", "line 1, column 1", "bracket"),
        ("{} {}", "line 1, column 4", "closes its first {"),
    ],
)
def test_broken_json_names_line_and_column_and_shows_the_line(tmp_path: Path, text: str, place: str, told: str) -> None:
    fault = the_fault(tmp_path, text)

    assert fault.startswith(place)
    assert told in fault
    assert text.split("\n")[int(place.split()[1].rstrip(",")) - 1].strip() in fault


def test_of_a_broken_line_only_a_known_key_with_its_value_is_shown(tmp_path: Path) -> None:
    assert "in:" not in the_fault(tmp_path, "{// hunter2\n}")
    assert "in:" not in the_fault(tmp_path, '{"pushgateway_pasword":\n"hunter2" "}')
    assert 'in: {"sleep_time": 30;' in the_fault(tmp_path, '{"sleep_time": 30 "ecret": "hunter2"}')


def test_broken_toml_names_line_and_column_and_shows_the_line(tmp_path: Path) -> None:
    fault = the_fault(tmp_path, 'run_enabled = "N"\nlog_file = backup.log\n', name="config.toml")

    assert fault.startswith("line 2, column 12")
    assert "log_file = backup.log" in fault


def test_toml_that_ends_too_early_names_its_last_line(tmp_path: Path) -> None:
    assert the_fault(tmp_path, "a = [1,\n2", name="config.toml").startswith("line 2")


def test_a_broken_line_with_a_secret_is_not_shown(tmp_path: Path) -> None:
    fault = the_fault(tmp_path, '{"metrics": {\n"pushgateway_password": "hunter2",}}')

    assert "hunter2" not in fault


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[1]", "not a table"),
        ('"text"', "not a table"),
        ('{"sleep_time": NaN}', "NaN is not a number"),
        ("[" * 100_000, "nested too deeply"),
        ('{"sleep_time": ' + "9" * 5000 + "}", "the file"),
        (b'{"log_file": "\xff"}', "not UTF-8: byte 0xff at offset 14 in line 1"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: str | bytes, told: str) -> None:
    assert told in the_fault(tmp_path, content)


@pytest.mark.parametrize("name", ["config.yaml", "config"])
def test_other_extensions_are_refused(tmp_path: Path, name: str) -> None:
    assert "name it .json or .toml" in the_fault(tmp_path, "{}", name=name)


def test_a_key_that_is_there_twice_is_a_fault_besides_the_others(tmp_path: Path) -> None:
    error = refused(tmp_path, '{"run_enabled": "N", "sleep_time": 30, "sleep_time": "soon"}')

    assert error.message.endswith("cannot be used: 2 faults")
    assert any(fault.startswith("sleep_time: this key occurs twice") for fault in error.faults)
    assert any(fault.startswith('sleep_time = "soon"') for fault in error.faults)


def test_a_missing_file_says_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(str(tmp_path / "none.json"), {})

    assert caught.value.message == f"there is no configuration file at {tmp_path}/none.json"
    assert "--config" in caught.value.hint
    assert "$TRUECOPY_CONFIG" in caught.value.hint


def test_a_folder_instead_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it is a folder"):
        read_settings(str(tmp_path), {})


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")

    with pytest.raises(ConfigError, match="not a regular file"):
        read_settings(str(tmp_path / "config.json"), {})


@pytest.mark.parametrize("path", ["a\0b", "", "x" * 5000])
def test_a_path_that_cannot_be_is_refused(path: str) -> None:
    with pytest.raises(ConfigError):
        read_settings(path, {})


def test_a_file_far_too_large_is_refused(tmp_path: Path) -> None:
    path = config_file(tmp_path, "{}")
    os.truncate(path, 5 * 1024 * 1024)

    with pytest.raises(ConfigError, match="larger than"):
        read_settings(path, {})


@pytest.mark.needs_root
def test_a_file_that_may_not_be_read_names_the_user(tmp_path: Path) -> None:
    path = config_file(tmp_path, SIX)
    os.chmod(path, 0o600)
    os.chmod(tmp_path, 0o755)
    os.seteuid(65534)

    try:
        with pytest.raises(ConfigError, match="cannot be read: Permission denied") as caught:
            read_settings(path, {})
    finally:
        os.seteuid(0)

    assert "Let user 65534 read it" in caught.value.hint


@pytest.mark.needs_root
def test_root_refuses_a_file_that_everybody_may_write(tmp_path: Path) -> None:
    path = config_file(tmp_path, SIX)
    os.chmod(path, 0o666)

    with pytest.raises(ConfigError, match="root does not follow") as caught:
        read_settings(path, {})

    assert caught.value.faults == (f"{path} is writable by everybody (mode 666); run `chmod o-w {path}`",)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)), st.sampled_from([".json", ".toml"]))
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes, extension: str) -> None:
    path = config_file(tmp_path, content, f"config{extension}")

    with pytest.raises(ConfigError):  # since no such small text names folders
        read_settings(path, {})


STRANGER = 64003


@pytest.fixture
def in_a_folder_of_another_user(tmp_path: Path) -> Path:
    """A configuration that lies where another user keeps it: in a folder, by a link, and writable by a group."""
    folder = tmp_path / "home"
    folder.mkdir()
    path = Path(config_file(folder, SIX))
    os.chown(path, STRANGER, STRANGER + 1)
    path.chmod(0o664)
    os.chown(folder, STRANGER, STRANGER)
    return path


@pytest.mark.needs_root
def test_root_is_told_of_everybody_who_may_change_the_file_at_once_with_the_commands(
    in_a_folder_of_another_user: Path,
) -> None:
    path = in_a_folder_of_another_user

    with pytest.raises(ConfigError, match=f"root does not follow {path}") as caught:
        read_settings(str(path), {})

    assert caught.value.exit is Exit.USAGE
    assert caught.value.faults == (
        f"{path.parent} (a folder on the way to it) belongs to user {STRANGER}",
        f"{path} belongs to user {STRANGER}",
        f"{path} is writable by the group {STRANGER + 1} (mode 664); run `chmod g-w {path}`",
    )
    assert f"`install -D -o root -g root -m 600 {path} /etc/truecopy/config.json`" in caught.value.hint
    assert f"set TRUECOPY_CONFIG_OWNER={STRANGER} and run the commands above" in caught.value.hint
    assert "chown" not in caught.value.hint


@pytest.mark.needs_root
def test_the_command_that_root_is_told_makes_a_configuration_that_root_follows(
    in_a_folder_of_another_user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_a_folder_of_another_user
    monkeypatch.chdir(path.parent)
    with pytest.raises(ConfigError) as caught:
        read_settings(path.name, {})
    with tempfile.TemporaryDirectory(dir="/root") as folder:
        command = caught.value.hint.split("`")[1].replace("/etc/truecopy", folder)
        monkeypatch.chdir("/")

        assert os.waitstatus_to_exitcode(os.system(command)) == 0, command

        assert read_settings(f"{folder}/{path.name}", {}).loaded.doubts == ()
    owners = {each.stat().st_uid for each in (path, path.parent)}
    assert owners == {STRANGER}, "the user keeps what is theirs"


@pytest.mark.needs_root
def test_root_follows_the_user_that_the_environment_names_and_no_group_of_others(
    in_a_folder_of_another_user: Path,
) -> None:
    path = in_a_folder_of_another_user
    allowed = {"TRUECOPY_CONFIG_OWNER": str(STRANGER)}

    with pytest.raises(ConfigError) as caught:
        read_settings(str(path), allowed)
    os.chown(path, STRANGER, STRANGER)

    assert len(caught.value.faults) == 1
    assert read_settings(str(path), allowed).loaded.config.enabled


@pytest.mark.parametrize("text", ["me", "-1", "1.5", "9" * 30, "٣"])
def test_the_user_that_root_follows_is_a_number(tmp_path: Path, text: str) -> None:
    told = the_fault(tmp_path, SIX, {"TRUECOPY_CONFIG_OWNER": text})

    assert told.startswith("TRUECOPY_CONFIG_OWNER: not the number of a user")


@pytest.fixture
def where_others_come(tmp_path: Path) -> Iterator[Path]:
    """A folder that everybody may enter, which those of pytest are not."""
    del tmp_path
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.needs_root
def test_an_ordinary_user_is_warned_of_what_others_may_write_and_follows_any_owner(where_others_come: Path) -> None:
    path = config_file(where_others_come, SIX)
    os.chown(path, STRANGER, STRANGER)
    os.chmod(path, 0o664)
    os.seteuid(65534)
    try:
        of_its_owner = read_settings(path, {}).loaded.doubts
    finally:
        os.seteuid(0)
    os.chown(path, STRANGER, STRANGER + 1)
    os.seteuid(65534)
    try:
        of_a_group = read_settings(path, {}).loaded.doubts
    finally:
        os.seteuid(0)

    assert of_its_owner == (), "its private group is nobody else"
    assert [str(doubt) for doubt in of_a_group] == [
        f"{path} is writable by the group {STRANGER + 1} (mode 664); run `chmod g-w {path}`"
    ]


def test_a_file_with_a_password_that_everybody_may_read_is_told(where_others_come: Path) -> None:
    login = {"pushgateway_username": "me", "pushgateway_password": "hunter2"}
    path = config_file(where_others_come, SIX | {"metrics": login})

    (doubt,) = read_settings(path, {}).loaded.doubts

    assert str(doubt) == f"{path} is readable by everybody (mode 644); run `chmod o-r {path}`"
    os.chmod(path, 0o640)
    assert read_settings(path, {}).loaded.doubts == ()
    assert read(where_others_come, SIX).loaded.doubts == (), "without a password in it"


def test_so_is_the_file_of_a_password(where_others_come: Path) -> None:
    secret = where_others_come / "password"
    secret.write_text("hunter2")
    secret.chmod(0o644)
    environ = {
        "TRUECOPY_METRICS_PUSHGATEWAY_USERNAME": "me",
        "TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD_FILE": str(secret),
    }

    (doubt,) = read(where_others_come, SIX, environ).loaded.doubts

    assert str(doubt) == f"{secret} is readable by everybody (mode 644); run `chmod o-r {secret}`"


@pytest.mark.needs_root
def test_root_reads_no_secret_from_a_file_that_others_may_exchange(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/shadow")
    os.chown(tmp_path / "link", STRANGER, STRANGER, follow_symlinks=False)
    environ = {"TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD_FILE": str(tmp_path / "link")}

    told = the_fault(tmp_path, SIX, environ)

    assert f"{tmp_path}/link is a link of user {STRANGER}; put the secret into a file that only root may change" in told
    assert (
        f"; or, if user {STRANGER} may decide what root reads and writes, set TRUECOPY_CONFIG_OWNER={STRANGER}" in told
    )
    assert "`" not in told, "what the link leads to may be any file of root's"
