import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.config.fields import byte_count, seconds


@pytest.mark.parametrize(
    ("written", "count"),
    [
        (500, 500),
        (500.0, 500),
        ("501", 501),
        ("64KiB", 64 * 1024),
        ("10 MiB", 10 * 1024**2),
        ("10M", 10 * 1024**2),
        ("1.5GB", 1_500_000_000),
        ("2t", 2 * 1024**4),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_bytes_are_read_as_people_write_them(written: object, count: int) -> None:
    assert byte_count(written) == count


@pytest.mark.parametrize(
    ("written", "length"),
    [
        (30, 30),
        (0.5, 0.5),
        ("90", 90),
        ("30s", 30),
        ("15m", 900),
        ("15 minutes", 900),
        ("6h", 21600),
        ("1 day", 86400),
        ("1.5 Hours", 5400),
        ("2w", 1209600),
    ],
)
def test_durations_are_read_as_people_write_them(written: object, length: float) -> None:
    assert seconds(written) == length


@pytest.mark.parametrize(
    "wrong", [True, None, [], "", "soon", "10 parsecs", "-5", -6, float("nan"), float("inf"), "1e9"]
)
@pytest.mark.parametrize("read", [byte_count, seconds])
def test_what_is_no_amount_is_refused_with_what_would_be_right(read: type[int], wrong: object) -> None:
    with pytest.raises(ValueError, match="write a number of"):
        read(wrong)  # type: ignore[call-overload]


@pytest.mark.parametrize("wrong", [0.5, "0.25", 10**30, "99999999 TiB"])
def test_half_a_byte_and_more_than_any_disk_are_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="bytes"):
        byte_count(wrong)


def test_more_than_a_hundred_years_are_refused() -> None:
    with pytest.raises(ValueError, match="hundred years"):
        seconds("5000000 days")


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.binary()))
def test_any_value_is_an_amount_or_refused(value: object) -> None:
    for read in (byte_count, seconds):
        try:
            amount = read(value)
        except ValueError:
            continue

        assert amount >= 0
