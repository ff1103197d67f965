"""The closed sets of words, and how results and errors are put into them."""

import errno
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.outcome import Drift, Failure, Refusal, Result, Skip, failure_of, worst
from job.errors import Exit

WORST_FIRST = [Result.STOPPED, Result.FAILED, Result.REFUSED, Result.HELD, Result.PARTIAL, Result.BUSY, Result.SUCCESS]


@given(st.lists(st.sampled_from(list(Result))))
def test_the_worst_result_of_the_pairs_is_the_result_of_the_cycle(results: list[Result]) -> None:
    assert worst(results) is min(results, key=WORST_FIRST.index, default=Result.SUCCESS)


def test_every_result_has_an_exit_code_of_its_own_but_a_hold_which_is_a_refusal_and_only_success_is_0() -> None:
    codes = [result.exit for result in Result if result is not Result.HELD]

    assert len(set(codes)) == len(Result) - 1
    assert Result.HELD.exit is Result.REFUSED.exit
    assert [result for result in Result if result.exit == 0] == [Result.SUCCESS]


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (Result.SUCCESS, Exit.OK),
        (Result.FAILED, Exit.FAILED),
        (Result.PARTIAL, Exit.PARTIAL),
        (Result.REFUSED, Exit.REFUSED),
        (Result.HELD, Exit.REFUSED),
        (Result.BUSY, Exit.BUSY),
        (Result.STOPPED, Exit.TERMINATED),
    ],
)
def test_results_end_with_the_published_exit_codes(result: Result, code: Exit) -> None:
    assert result.exit is code


@pytest.mark.parametrize(
    ("number", "failure"),
    [
        (errno.EACCES, Failure.PERMISSION),
        (errno.EPERM, Failure.PERMISSION),
        (errno.ENOSPC, Failure.NO_SPACE),
        (errno.EDQUOT, Failure.NO_SPACE),
        (errno.EROFS, Failure.READ_ONLY),
        (errno.EIO, Failure.IO_ERROR),
        (errno.ENAMETOOLONG, Failure.NAME),
        (errno.EFBIG, Failure.TOO_LARGE),
        (errno.ENOTEMPTY, Failure.TYPE_CONFLICT),
        (errno.ENOTDIR, Failure.TYPE_CONFLICT),
        (errno.ESTALE, Failure.IO_ERROR),
    ],
)
def test_errors_of_the_operating_system_become_words(number: int, failure: Failure) -> None:
    assert failure_of(OSError(number, "whatever it says")) is failure


@given(st.integers(0, 10_000))
def test_any_error_number_has_a_word(number: int) -> None:
    assert failure_of(OSError(number, "")) in Failure


def test_an_error_without_a_number_has_a_word() -> None:
    assert failure_of(OSError("no number")) is Failure.OTHER


@pytest.mark.parametrize("words", [Failure, Skip, Drift, Refusal, Result])
def test_words_are_fit_for_label_values(words: type[Failure | Skip | Drift | Refusal | Result]) -> None:
    assert all(str(word).replace("_", "").isalpha() and str(word).islower() for word in words)


def test_no_failure_is_called_like_a_skip() -> None:
    assert not [one for one, other in itertools.product(Failure, Skip) if str(one) == str(other)]
