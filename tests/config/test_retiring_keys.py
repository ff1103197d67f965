"""`on_source_delete` and `retire_after`: no text means less than its writer thought; all faults are told at once."""

import pytest

from job.config.fields import waiting_time
from tests.config.configs import to_settings
from tests.config.test_faults import FOLDERS, lines

DAY = 86400


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("7 days", 7 * DAY),
        ("0 hours", 0),
        ("90 d", 90 * DAY),
        ("12 hours", DAY / 2),
        ("1.5 weeks", 10.5 * DAY),
        ("2 months", 62 * DAY),
        (" 1 Year ", 366 * DAY),
    ],
)
def test_a_time_is_read(written: str, meant: float) -> None:
    assert waiting_time(written) == meant


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (7, "without a unit"),
        ("7 ", "without a unit"),
        (True, "without a unit"),
        (None, "without a unit"),
        ("7 m", "unknown unit 'm'"),
        ("7 minutes", "unknown unit 'minutes'"),
        ("-1 days", "negative"),
        ("a week", "not an amount"),
        ("101 years", "longer than a hundred years"),
    ],
)
def test_a_time_that_may_mean_something_else_is_refused(written: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        waiting_time(written)


def test_all_faults_are_told_at_once() -> None:
    found = lines(
        {
            **FOLDERS,
            "on_source_delete": "delete",
            "retire_after": 7,
            "pairs": [{"source": "/a", "dest": "/b", "on_source_delete": "Retire", "retire_after": "1 M"}],
        }
    )

    assert [line.partition(" = ")[0].partition(":")[0] for line in found if "source_dirs" not in line] == [
        "on_source_delete",
        "retire_after",
        "pairs[0].on_source_delete",
        "pairs[0].retire_after",
    ]
    assert all(any(word in line for word in ("keep", "unit")) for line in found if "source_dirs" not in line)


def test_a_pair_overrides_the_general_keys() -> None:
    pairs = [
        {"source": "/a", "dest": "/x"},
        {"source": "/b", "dest": "/y", "on_source_delete": "keep", "retire_after": "1 day"},
    ]
    first, second = to_settings(pairs=pairs, on_source_delete="retire").effective_pairs

    assert (first.on_source_delete, first.retire_after) == ("retire", "7 days")
    assert (second.on_source_delete, second.retire_after) == ("keep", "1 day")
