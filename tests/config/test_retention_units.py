"""How long versions are kept, and how much of a disk they may take: no text may mean less than its writer thought."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.config.fields import keep, most_versions, share
from job.core.retention import Keep, KeepCounts, KeepFor, MostVersions

DAY = 86400


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("30 days", KeepFor(30 * DAY)),
        ("30d", KeepFor(30 * DAY)),
        ("48 hours", KeepFor(2 * DAY)),
        (" 1 Day ", KeepFor(DAY)),
        ("2 weeks", KeepFor(14 * DAY)),
        ("1.5 weeks", KeepFor(10.5 * DAY)),
        ("1 month", KeepFor(31 * DAY)),
        ("1 year", KeepFor(366 * DAY)),
        ({"daily": 7}, KeepCounts(daily=7)),
        ({"hourly": 24, "daily": 7, "weekly": 4, "monthly": 12}, KeepCounts(24, 7, 4, 12)),
        ({"daily": 7, "weekly": 0}, KeepCounts(daily=7)),
    ],
)
def test_a_rule_is_read(written: object, meant: Keep) -> None:
    assert keep(written) == meant


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (30.0, "without a unit"),
        ("30", "without a unit"),
        ("", "without a unit"),
        (None, "without a unit"),
        (True, "without a unit"),
        ("1 M", "unknown unit 'M'"),
        ("1 m", "unknown unit 'm'"),
        ("23 hours", "less than a day"),
        ("90 minutes", "unknown unit 'minutes'"),
        ("-1 days", "negative"),
        ("0 days", "less than a day"),
        ("0.5 days", "less than a day"),
        ("101 years", "longer than a hundred years"),
        ("U:1M", "not an amount"),
        ("a month", "not an amount"),
        ({}, "it keeps nothing"),
        ({"daily": 0}, "it keeps nothing"),
        ({"dayly": 7}, "unknown count 'dayly', known are hourly, daily, weekly, monthly"),
        ({7: 7}, "unknown count 7"),
        ({"daily": -1}, "daily is no whole number from 0"),
        ({"daily": 1.5}, "daily is no whole number"),
        ({"daily": True}, "daily is no whole number"),
        ({"daily": "7"}, "daily is no whole number"),
    ],
)
def test_a_rule_that_might_mean_less_than_thought_is_refused_with_an_example(written: object, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        keep(written)

    assert "'30 days'" in str(caught.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("20 %", MostVersions(share=0.2)),
        ("20%", MostVersions(share=0.2)),
        ("0.5 %", MostVersions(share=0.005)),
        ("100 %", MostVersions(share=1.0)),
        ("50GiB", MostVersions(bytes=50 << 30)),
        (500, MostVersions(bytes=500)),
    ],
)
def test_a_limit_is_read(written: object, meant: MostVersions) -> None:
    assert most_versions(written) == meant


@pytest.mark.parametrize("written", ["0 %", 0, "101 %", "-5 %", "%", "twenty %", 0.2, True, None, "1 TiBit"])
def test_a_limit_that_is_none_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="write"):
        most_versions(written)


@given(st.floats(0, 1))
def test_a_share_is_a_number_up_to_one(number: float) -> None:
    assert share(number) == number


@pytest.mark.parametrize("written", ["30", 1.1, -0.1, True, None, "30 percent", "101 %"])
def test_another_share_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="share such as '20 %'"):
        share(written)


@given(st.one_of(st.none(), st.booleans(), st.floats(), st.text(), st.binary(), st.dictionaries(st.text(), st.text())))
def test_any_value_is_read_or_refused(value: object) -> None:
    for parse in (keep, most_versions, share):
        with suppress(ValueError):
            parse(value)
