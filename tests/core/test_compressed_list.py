"""A packed list holds what a plain list would, whatever is done to it, and takes a fraction of the room."""

import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from job.core.compressed_list import CompressedList

Value = tuple[bytes, int]

values = st.lists(st.tuples(st.binary(max_size=6), st.integers(0, 2**70)), max_size=20)


FEW = 3
"""Length of a chunk with which a few values go every way."""


class BesideAList(RuleBasedStateMachine):
    """A packed list and a plain one to which the same things happen."""

    @initialize(first=values)
    def start(self, first: list[Value]) -> None:
        self.plain = list(first)
        self.packed = CompressedList(first, FEW)

    @rule(value=st.tuples(st.binary(max_size=6), st.integers()))
    def append(self, value: Value) -> None:
        self.plain.append(value)
        self.packed.append(value)

    @rule(more=values)
    def extend(self, more: list[Value]) -> None:
        self.plain += more
        self.packed.extend(iter(more))

    @rule(more=values)
    def extend_by_another(self, more: list[Value]) -> None:
        self.plain += more
        self.packed.extend(CompressedList(more, FEW))

    @rule()
    def pop(self) -> None:
        if self.plain:
            assert self.packed.pop() == self.plain.pop()
            return
        with pytest.raises(IndexError):
            self.packed.pop()

    @rule(step=st.integers(1, 5), most=st.integers(1, 8))
    def take(self, step: int, most: int) -> None:
        taken = self.packed.take(step, most)

        assert len(taken) <= most
        assert bool(taken) == bool(self.plain)
        rest = iter(self.plain)
        assert all(value in rest for value in taken), "in order, from what was there"
        left = list(self.packed)
        assert sorted(taken + left) == sorted(self.plain)
        self.plain = left

    @rule()
    def send_to_another_process(self) -> None:
        self.packed = pickle.loads(pickle.dumps(self.packed))

    def teardown(self) -> None:
        assert len(self.packed) == len(self.plain)
        assert bool(self.packed) == bool(self.plain)
        assert list(self.packed) == self.plain
        assert list(self.packed) == self.plain, "going through takes nothing off"
        assert [self.packed.pop() for _ in self.plain] == self.plain[::-1]


TestBesideAList = BesideAList.TestCase


@given(count=st.integers(0, 5), lookers=st.integers(1, 5))
def test_whoever_takes_a_share_leaves_theirs_to_the_others(count: int, lookers: int) -> None:
    waiting = CompressedList([(number,) for number in range(count)])

    taken = waiting.take(lookers, 256)

    assert len(taken) == -(-count // lookers)


def test_a_hundred_thousand_paths_take_a_few_bytes_each() -> None:
    paths = CompressedList((b"music/artist %d/album %d" % (number // 10, number), 0) for number in range(100_000))

    assert sum(map(sys.getsizeof, paths._chunks)) < 10 * 100_000
    assert len(paths._tail) < 2 * 2048
