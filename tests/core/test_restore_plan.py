"""What stood at a path at a time: golden cases, and random histories against a model that knows every second."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.entry import Kind
from job.core.restore_plan import Answer, Kept, Sureness, content_at, may_hold_entries, others
from job.core.versions import Moment

NEVER = float("-inf")
"""Versions are complete since ever."""
FIRST = Kept(Moment(200), Kind.FILE, since=100, until=205)
SECOND = Kept(Moment(300), Kind.FILE, since=205, until=310, replaced_another=True)
NOW = Kept(None, Kind.FILE, since=310, replaced_another=True)
ALL = (NOW, SECOND, FIRST)


def without_index(*kept: Kept) -> list[Kept]:
    return [each._replace(since=None, until=None, replaced_another=False) for each in kept]


@pytest.mark.parametrize(
    ("at", "kept", "sureness"),
    [
        (99, None, "absent"),
        (100, FIRST, "certain"),
        (204, FIRST, "certain"),  # the cycle of 200 had not come to it yet
        (205, SECOND, "certain"),
        (309, SECOND, "certain"),
        (310, NOW, "certain"),
        (9999, NOW, "certain"),
    ],
)
def test_each_time_has_its_content(at: float, kept: Kept | None, sureness: str) -> None:
    assert content_at(ALL, at, NEVER)[:2] == (kept, sureness)


@pytest.mark.parametrize(
    ("at", "kept", "sureness"),
    [(150, None, "not_kept"), (206, None, "not_kept"), (310, NOW, "certain")],
)
def test_what_was_given_up_is_not_replaced_by_what_came_after_it(at: float, kept: Kept | None, sureness: str) -> None:
    assert content_at([NOW], at, 310)[:2] == (kept, sureness)


def test_a_removed_file_is_absent_after_its_removal_unless_something_was_given_up() -> None:
    assert content_at([FIRST], 205, NEVER).sureness is Sureness.ABSENT
    assert content_at([FIRST], 205, 300).sureness is Sureness.NOT_KEPT
    assert content_at([], 205, NEVER).sureness is Sureness.ABSENT
    assert content_at([], 205, 300).sureness is Sureness.NOT_KEPT


def test_a_file_that_was_removed_and_made_again_is_absent_between() -> None:
    again = Kept(None, Kind.FILE, since=400)

    assert content_at([FIRST, again], 300, NEVER) == Answer(None, Sureness.ABSENT, "it was new later")
    assert content_at([FIRST, again], 300, 350).sureness is Sureness.NOT_KEPT


def test_without_an_index_the_folders_decide_and_the_answer_says_so() -> None:
    first, second, now = without_index(FIRST, SECOND, NOW)

    assert content_at([first, second, now], 150, NEVER)[:2] == (first, Sureness.LIKELY)
    assert content_at([first, second, now], 250, NEVER)[:2] == (second, Sureness.LIKELY)
    assert content_at([first, second, now], 300, NEVER)[:2] == (now, Sureness.LIKELY)
    assert "may be newer" in content_at([first], 150, NEVER).reason
    assert "first content that was replaced" in content_at([first, second], 250, NEVER).reason


def test_a_chmod_makes_it_unsure_since_when_a_content_stands() -> None:
    changed = Kept(None, Kind.FILE, since=500, is_since_exact=False)

    assert content_at([changed], 500, NEVER).sureness is Sureness.CERTAIN
    assert content_at([changed], 499, NEVER)[:2] == (changed, Sureness.LIKELY)


def test_a_rotten_content_has_the_nearest_others_as_offers() -> None:
    assert others(ALL, SECOND, 206) == [FIRST, NOW]
    assert others(ALL, SECOND, 309) == [NOW, FIRST]
    assert others(ALL, NOW, 9999) == [SECOND, FIRST]
    assert others(without_index(FIRST, SECOND), without_index(FIRST)[0], 150) == without_index(SECOND)


def test_a_folder_that_was_a_file_then_has_no_entries() -> None:
    file, folder = FIRST, Kept(None, Kind.FOLDER, since=205)

    assert not may_hold_entries(content_at([file, folder], 150, NEVER))
    assert may_hold_entries(content_at([file, folder], 300, NEVER))
    assert may_hold_entries(content_at(without_index(file, folder), 150, NEVER))
    assert may_hold_entries(content_at([], 150, NEVER))


def test_a_folder_of_versions_that_seems_to_end_first_does_not_hide_what_stood_there() -> None:
    link = Kept(Moment(300), Kind.SYMLINK, since=250, until=300.7)
    folder_of_versions = Kept(Moment(300), Kind.FOLDER)

    for at in (250, 299.9, 300.6):
        assert content_at([folder_of_versions, link, Kept(None, Kind.FOLDER)], at, NEVER)[:2] == (link, "certain")
    assert may_hold_entries(content_at([folder_of_versions, link, Kept(None, Kind.FOLDER)], 300.8, NEVER))


class Step(NamedTuple):
    """One cycle."""

    seconds: int
    copied_after: int
    """Seconds from the start of the cycle to the copy of this path."""
    change: str
    given_up: int
    """How many of the oldest versions are given up after it."""


steps = st.builds(
    Step, st.integers(10, 40), st.integers(0, 9), st.sampled_from(["write", "remove", "nothing"]), st.integers(0, 2)
)


class History:
    """A path, and what it held at every second."""

    def __init__(self) -> None:
        self.now = 1000
        self.truth: dict[int, int | None] = {}
        self.held: Kept | None = None
        self.content: int | None = None
        self.versions: list[tuple[Kept, int]] = []
        self.complete_since = float("-inf")
        self._written = 0

    def cycle(self, step: Step) -> None:
        at = self.now + step.copied_after
        for second in range(self.now, at):
            self.truth[second] = self.content
        if step.change != "nothing" and self.held is not None and self.content is not None:
            self.versions.append((self.held._replace(moment=Moment(self.now), until=at), self.content))
        if step.change == "write":
            self._written += 1
            self.held = Kept(None, Kind.FILE, since=at, replaced_another=self.held is not None)
            self.content = self._written
        elif step.change == "remove":
            self.held = self.content = None
        for _ in range(min(step.given_up, len(self.versions))):
            gone, _ = self.versions.pop(0)
            self.complete_since = max(self.complete_since, gone.end)
        for second in range(at, self.now + step.seconds):
            self.truth[second] = self.content
        self.now += step.seconds

    def kept(self) -> dict[Kept, int]:
        here = [(self.held, self.content)] if self.held is not None and self.content is not None else []
        return dict([*self.versions, *here])


@given(st.lists(steps, max_size=25))
def test_with_an_index_every_answer_agrees_with_the_model(cycles: list[Step]) -> None:
    history = History()
    for step in cycles:
        history.cycle(step)
    contents = history.kept()

    for at, truth in history.truth.items():
        answer = content_at(contents, at, history.complete_since)

        if truth in contents.values():
            assert answer.kept is not None
            assert (contents[answer.kept], answer.sureness) == (truth, Sureness.CERTAIN)
        else:
            assert answer.kept is None
            assert answer.sureness in ({Sureness.NOT_KEPT} if truth else {Sureness.NOT_KEPT, Sureness.ABSENT})


@given(st.lists(steps, max_size=25))
def test_without_an_index_no_answer_pretends_to_be_certain(cycles: list[Step]) -> None:
    history = History()
    for step in cycles:
        history.cycle(step)
    contents = {kept._replace(since=None, until=None): content for kept, content in history.kept().items()}

    for at, truth in history.truth.items():
        answer = content_at(contents, at, history.complete_since)

        assert answer.sureness is not Sureness.CERTAIN
        if answer.sureness is Sureness.ABSENT:
            assert not contents
            assert truth is None
