"""The judges can tell: scores of made-up outcomes, copies that are mixed, and what tools say of errors."""

from pathlib import Path

import pytest

from tests.faults.matrix.finding import Outcome, Score, plain
from tests.faults.matrix.moving import mixed
from tests.faults.matrix.reference import note
from tests.faults.matrix.scene import content, either
from tests.faults.matrix.tools import TOOLS, Order
from tests.faults.matrix.writer import CHUNKS, chunk, place_of

SILENT, TOLD, FAILED = Outcome(0), Outcome(0, ("skipped: a pipe",)), Outcome(1)
HUNG = Outcome(None)


@pytest.mark.parametrize(
    ("outcome", "found", "score"),
    [
        (SILENT, {}, Score.SAFE_AND_TOLD),
        (FAILED, {}, Score.SAFE_AND_TOLD),
        (SILENT, {"wrong": ("mixed",)}, Score.WRONG_AND_SILENT),
        (HUNG, {"wrong": ("19 files are left",)}, Score.WRONG_AND_SILENT),
        (FAILED, {"wrong": ("mixed",)}, Score.WRONG_BUT_TOLD),
        (TOLD, {"wrong": ("mixed",)}, Score.WRONG_BUT_TOLD),
        (SILENT, {"absent": ("a file",)}, Score.WRONG_AND_SILENT),
        (FAILED, {"absent": ("a file",)}, Score.SAFE_AND_TOLD),
        (SILENT, {"lesser": ("a link",)}, Score.SAFE_BUT_SILENT),
        (TOLD, {"lesser": ("a link",)}, Score.SAFE_AND_TOLD),
        (SILENT, {"absent": ("a file",), "lesser": ("a link",)}, Score.WRONG_AND_SILENT),
        (FAILED, {"wrong": ("mixed",), "absent": ("a file",)}, Score.WRONG_BUT_TOLD),
    ],
)
def test_a_score_says_what_was_found_and_whether_it_was_told(
    outcome: Outcome, found: dict[str, tuple[str, ...]], score: Score
) -> None:
    assert outcome.finding(**found).score is score


def test_a_complaint_about_something_else_tells_nothing_but_an_exit_code_does() -> None:
    assert TOLD.tells("a pipe")
    assert not TOLD.tells("another file")
    assert FAILED.tells("another file")
    assert not HUNG.tells()


def test_what_is_kept_of_a_finding_is_short_and_without_what_says_nothing() -> None:
    kept = plain(Outcome(3, ("Failed file: " + "x" * 500,)).finding("file", absent=("file",)))

    assert len(str(kept.pop("said"))) < 200
    assert kept == {"score": 3, "told": True, "absent": ("file",), "code": 3}


def laid(numbers: range) -> list[bytes]:
    return [chunk(number) for number in sorted(numbers, key=place_of)]


def test_a_copy_of_one_moment_is_not_mixed() -> None:
    assert not mixed(b"".join(laid(range(CHUNKS))))
    assert not mixed(b"".join(laid(range(700, 700 + CHUNKS))))


def test_a_copy_with_a_write_half_done_is_of_one_moment_if_it_is_the_latest() -> None:
    parts = laid(range(CHUNKS))
    newest, oldest = place_of(CHUNKS - 1), place_of(3)
    half = len(parts[0]) // 2

    parts[newest] = parts[newest][:half] + chunk(7)[half:]
    assert not mixed(b"".join(parts))
    parts[oldest] = parts[oldest][:half] + chunk(7)[half:]
    assert mixed(b"".join(parts))


def test_a_copy_that_has_a_later_write_and_not_an_earlier_one_is_mixed() -> None:
    parts = laid(range(CHUNKS))
    parts[place_of(CHUNKS + 1)] = chunk(CHUNKS + 1)

    assert mixed(b"".join(parts))
    assert mixed(b"".join(parts[:-1]))


def test_nothing_but_the_old_and_the_new_content_is_right_and_links_are_not_followed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"stub")
    (tmp_path / "link").symlink_to(file)

    assert either(file, b"old", b"new")
    assert either(tmp_path / "gone", b"old", b"new")
    assert not either(file, b"stub", b"new")
    assert not either(file, b"old", b"stub")
    assert content(tmp_path / "link") is None
    assert content(tmp_path) is None


@pytest.mark.parametrize(
    ("tool", "output", "errors", "said"),
    [
        ("rsync", "sending list\nskipping non-regular file", "", 1),
        ("rsync", "", "rsync: open failed: Permission denied\nrsync error (code 23)", 2),
        ("rclone", "", "NOTICE: link: Can't follow symlink\nINFO : file: Copied", 1),
        ("original", "copied file", "", 0),
        ("truecopy", '{"level": "info", "event": "file_copied", "message": "Copied error"}', "", 0),
        ("truecopy", '{"level": "warning", "event": "drift_found", "message": "Not as it was"}', "", 1),
        ("truecopy", '{"level": "info", "event": "cycle_finished", "skipped_by": {"unchanged": 3}}', "", 0),
        ("truecopy", '{"level": "info", "event": "cycle_finished", "skipped_by": {"special_file": 1}}', "", 1),
        ("truecopy", "", "error: the configuration is wrong", 1),
    ],
)
def test_what_is_said_of_errors_and_omissions_is_found_and_nothing_else(
    tmp_path: Path, tool: str, output: str, errors: str, said: int
) -> None:
    order = Order(source=tmp_path, mirror=tmp_path, papers=tmp_path)
    (by_name,) = [each for each in TOOLS if each.name == tool]

    assert len(list(by_name.complaints(order, output, errors))) == said


def test_a_score_that_is_not_the_studys_is_marked() -> None:
    assert note("1", "rsync", 2) == ""
    assert note("1", "rsync", 3) == "the study had 2"
    assert note("7a", "rclone", 3) == "the study expected 1"
    assert note("1", "truecopy", 0) == ""
