"""A configuration that was found valid before is believed, and only where nobody can have made it up."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from job.config import load
from job.config.cache import as_table, rebuilt
from job.config.load import last_good_config, read_config, read_settings
from job.config.settings import Config
from job.errors import ConfigError
from tests.config.configs import to_settings

WRITTEN: dict[str, Any] = {
    "pairs": [{"name": "music", "source": "/s", "dest": "/d", "exclude": ["*.tmp"], "rate_limit": "1MiB"}],
    "workers": 3,
    "schedule": "daily at 02:30",
    "metrics": {"textfile": "/t/x.prom"},
}


class Place:
    """A config file and the runtime folder it is read with."""

    def __init__(self, base: Path) -> None:
        self.path = base / "config.json"
        self.temp = base / "tmp"
        self.temp.mkdir()
        self.write(WRITTEN)
        self.environ = {"XDG_RUNTIME_DIR": str(self.temp), "HOME": "/nonexistent", "PATH": "/bin"}

    def write(self, written: dict[str, Any]) -> None:
        self.path.write_text(json.dumps(written))
        self.path.chmod(0o644)

    def read(self, **variables: str) -> Config:
        return read_config(str(self.path), self.environ | variables).config

    @property
    def folder(self) -> Path:
        return self.temp / "truecopy"

    @property
    def kept(self) -> Path:
        """The one file that is kept."""
        (found,) = self.folder.iterdir()
        return found

    def plant(self, **changes: Any) -> None:
        """Change what is kept, so that it shows when it is believed."""
        content = json.loads(self.kept.read_text())
        content["config"] |= changes
        self.kept.write_text(json.dumps(content))

    @property
    def believes(self) -> bool:
        return self.read().workers == 64


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A config that was read once; what is kept of it says something else than the file."""
    place = Place(tmp_path)
    place.read()
    place.plant(workers=64)
    return place


def test_what_is_kept_says_the_same_as_the_file(tmp_path: Path) -> None:
    place = Place(tmp_path)

    first, again = place.read(), place.read()

    assert first == again == read_settings(str(place.path), place.environ).loaded.config == to_settings(**WRITTEN)
    assert place.kept.stat().st_mode & 0o7777 == 0o600
    assert place.folder.stat().st_mode & 0o7777 == 0o700


def test_the_digest_is_the_same_whichever_way_it_was_read(place: Place) -> None:
    known = read_config(str(place.path), place.environ)

    assert known.config.workers == 64
    assert known.digest == read_settings(str(place.path), place.environ).loaded.digest


def test_every_configuration_comes_back_as_it_was() -> None:
    for written in ({"run_enabled": "N"}, WRITTEN, WRITTEN | {"workers_from": 0, "io_priority": "idle"}):
        config = to_settings(**written)

        assert rebuilt(Config, json.loads(json.dumps(as_table(config)))) == config


def test_an_edited_file_is_validated(place: Place) -> None:
    place.write(WRITTEN | {"workers": 5})

    assert place.read().workers == 5


def test_a_broken_edit_is_told(place: Place) -> None:
    place.write(WRITTEN | {"workers": 0})

    with pytest.raises(ConfigError):
        place.read()


def test_another_variable_is_heeded(place: Place) -> None:
    assert place.read(TRUECOPY_WORKERS="7").workers == 7
    with pytest.raises(ConfigError):
        place.read(TRUECOPY_WORKER="7")


def test_another_version_validates_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.believes

    monkeypatch.setattr(load, "__version__", "99.0.0")

    assert not place.believes


def test_the_commands_for_people_validate_in_earnest(place: Place) -> None:
    assert read_settings(str(place.path), place.environ).loaded.config.workers == 3


def a_link(place: Place) -> None:
    name = place.kept
    name.rename(place.temp / "elsewhere")
    name.symlink_to(place.temp / "elsewhere")


def a_linked_folder(place: Place) -> None:
    place.folder.rename(place.temp / "elsewhere")
    place.folder.symlink_to("elsewhere")


def a_torn_file(place: Place) -> None:
    os.truncate(place.kept, 200)


def another_key(place: Place) -> None:
    content = json.loads(place.kept.read_text())
    place.kept.write_text(json.dumps(content | {"key": "0" * 64}))


def a_pipe(place: Place) -> None:
    name = place.kept
    name.unlink()
    os.mkfifo(name)


@pytest.mark.parametrize("spoil", [a_link, a_linked_folder, a_torn_file, another_key, a_pipe])
def test_what_is_not_whole_or_not_ours_is_not_believed(place: Place, spoil: Callable[[Place], object]) -> None:
    spoil(place)

    assert place.read() == to_settings(**WRITTEN)


@pytest.mark.parametrize("content", [b"[]", b"{}", b"", b"\xff\0", b"[" * 100_000], ids=lambda content: content[:3])
def test_what_is_no_such_file_at_all_is_not_believed(place: Place, content: bytes) -> None:
    place.kept.write_bytes(content)

    assert place.read() == to_settings(**WRITTEN)


@pytest.mark.parametrize(
    "planted",
    [
        {"workers": True},
        {"workers": "64"},
        {"sleep_time": 1},
        {"log_level": "loud"},
        {"effective_pairs": {}},
        {"effective_pairs": [{"name": "music"}]},
        {"metrics": None},
        {"more": 1},
    ],
    ids=str,
)
def test_what_is_not_of_the_right_type_is_not_believed(place: Place, planted: dict[str, Any]) -> None:
    place.plant(**planted)

    assert place.read() == to_settings(**WRITTEN)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o710, 0o705])
def test_nothing_in_a_folder_that_others_may_enter_is_believed(place: Place, mode: int) -> None:
    place.folder.chmod(mode)

    assert not place.believes


@pytest.mark.needs_root
@pytest.mark.parametrize("part", ["folder", "kept"])
def test_what_belongs_to_somebody_else_is_not_believed(place: Place, part: str) -> None:
    os.chown(getattr(place, part), 1234, 1234)

    assert not place.believes


def test_a_spoilt_file_is_replaced(place: Place) -> None:
    a_torn_file(place)
    place.read()
    place.plant(workers=64)

    assert place.believes


@pytest.mark.parametrize("runtime", ["/proc/none", "/dev/null", "none", ""])
def test_without_a_private_folder_nothing_is_kept_and_nothing_said(tmp_path: Path, runtime: str) -> None:
    place = Place(tmp_path)

    assert place.read(XDG_RUNTIME_DIR=runtime) == place.read(XDG_RUNTIME_DIR=runtime) == to_settings(**WRITTEN)


def test_a_folder_for_temporary_files_is_not_used(tmp_path: Path) -> None:
    place = Place(tmp_path)

    place.read(XDG_RUNTIME_DIR="", TMPDIR=str(place.temp))

    assert list(place.temp.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("RUNTIME_DIRECTORY", "{base}/truecopy"),
        ("TRUECOPY_STATE_DIR", "{base}/.private"),
        ("XDG_STATE_HOME", "{base}/truecopy/private"),
        ("HOME", "{base}/.local/state/truecopy/private"),
    ],
)
def test_where_there_is_no_runtime_folder_of_the_user_the_next_place_is_taken(
    tmp_path: Path, variable: str, folder: str
) -> None:
    place = Place(tmp_path)
    variables = {"XDG_RUNTIME_DIR": "", variable: str(place.temp)}

    place.read(**variables)
    (kept,) = Path(folder.format(base=place.temp)).iterdir()
    content = json.loads(kept.read_text())
    kept.write_text(json.dumps(content | {"config": content["config"] | {"workers": 64}}))

    assert place.read(**variables).workers == 64


def test_nothing_is_kept_in_a_state_folder_that_lies_in_a_source(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write(WRITTEN | {"pairs": [{"name": "music", "source": str(place.temp), "dest": "/d"}]})

    place.read(XDG_RUNTIME_DIR="", TRUECOPY_STATE_DIR=str(place.temp))

    assert list(place.temp.iterdir()) == []


def test_a_password_is_never_kept(tmp_path: Path) -> None:
    place = Place(tmp_path)
    login = {"pushgateway_username": "me", "pushgateway_password": "hunter2"}
    place.write(WRITTEN | {"metrics": login})

    assert place.read().metrics.pushgateway_password == "hunter2"
    assert not place.folder.exists()


def test_what_comes_from_a_file_of_its_own_is_never_kept(tmp_path: Path) -> None:
    place = Place(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    given = {"TRUECOPY_METRICS_PUSHGATEWAY_USERNAME": "me", "TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD_FILE": str(secret)}

    assert place.read(**given).metrics.pushgateway_password == "hunter2"
    assert not place.folder.exists()


def test_nothing_is_kept_of_a_configuration_whose_password_is_not_sent(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write(WRITTEN | {"metrics": {"pushgateway": "http://127.0.0.1:1", "pushgateway_username": "me"}})

    assert place.read(TRUECOPY_METRICS_PUSHGATEWAY_PASSWORD="hunter2").metrics.pushgateway_withheld
    assert not place.folder.exists()


def test_configs_that_come_and_go_leave_a_bounded_number_of_files(tmp_path: Path) -> None:
    place = Place(tmp_path)

    for number in range(300):
        path = tmp_path / f"{number}.json"
        path.write_text('{"run_enabled": "N"}')
        path.chmod(0o644)
        read_config(str(path), place.environ)

    assert len(os.listdir(place.folder)) <= 256


def test_a_type_that_does_not_fit_is_refused_and_not_turned_into_one_that_does() -> None:
    config = to_settings(**WRITTEN)

    with pytest.raises(TypeError):
        rebuilt(Config, as_table(config._replace(sleep_time=30)))


def test_the_last_good_config_is_known_whatever_the_file_holds_now(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert last_good_config(str(place.path), place.environ) is None
    place.read()
    place.path.write_text("{")

    found = last_good_config(str(place.path), place.environ)

    assert found is not None
    assert found[0] == to_settings(**WRITTEN)
    assert found[1] == pytest.approx(place.kept.stat().st_mtime, abs=5)


def test_the_last_good_config_of_another_file_or_writer_is_not_believed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.read()
    content = json.loads(place.kept.read_text())
    place.kept.write_text(json.dumps(content | {"path": "/another/config.json"}))
    assert last_good_config(str(place.path), place.environ) is None

    place.kept.write_text(json.dumps(content))
    assert last_good_config(str(place.path), place.environ) is not None
    place.folder.chmod(0o777)
    assert last_good_config(str(place.path), place.environ) is None
