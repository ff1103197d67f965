"""Whatever becomes of the bytes of a real configuration, it is read or every fault of it is told in print."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from job.config.load import read_settings
from job.errors import ConfigError
from tests.fuzzed import Damage, damages

CONFIG = Path(__file__).parents[2] / "config"
FILES = ["backup_config.json", "backup_config.full.toml"]
SHARE, WHOLE = 150, 20_000


def read_damaged(folder: Path, file: str, damage: Damage) -> None:
    place = folder / file
    place.write_bytes(damage.of((CONFIG / file).read_bytes()))
    assert all(line.isprintable() for line in complaints(place))


def complaints(place: Path) -> list[str]:
    """Give all that is said against a configuration; nothing if it can be used."""
    try:
        read_settings(str(place), {})
    except ConfigError as error:
        return [error.message, error.hint, *error.faults]
    return []


quick = settings(
    deadline=None,
    max_examples=SHARE,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("file", FILES)
@given(damages)
@quick
def test_a_damaged_configuration_is_read_or_refused(tmp_path: Path, file: str, damage: Damage) -> None:
    read_damaged(tmp_path, file, damage)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("file", FILES)
@given(damages)
@settings(quick, max_examples=WHOLE)
def test_a_damaged_configuration_is_read_or_refused_many_times(tmp_path: Path, file: str, damage: Damage) -> None:
    read_damaged(tmp_path, file, damage)
