"""Bytes as they are after somebody, or a disk, was at them."""

from dataclasses import dataclass

from hypothesis import strategies as st

ANYWHERE = 2**20


@dataclass(frozen=True)
class Cut:
    """Part of the bytes gone, or all from a place on."""

    place: int
    length: int | None

    def of(self, content: bytearray) -> None:
        start = self.place * len(content) // ANYWHERE
        del content[start : None if self.length is None else start + self.length]


@dataclass(frozen=True)
class Put:
    """Other bytes in place of some, or between them."""

    place: int
    text: bytes
    over: bool

    def of(self, content: bytearray) -> None:
        start = self.place * len(content) // ANYWHERE
        content[start : start + len(self.text) if self.over else start] = self.text


@dataclass(frozen=True)
class Copied:
    """A page of the bytes where another one was."""

    place: int
    source: int
    size: int

    def of(self, content: bytearray) -> None:
        start, source = (
            place * len(content) // ANYWHERE // self.size * self.size for place in (self.place, self.source)
        )
        content[start : start + self.size] = content[source : source + self.size]


@dataclass(frozen=True)
class Damage:
    """Some of these, one after the other."""

    steps: tuple[Cut | Put | Copied, ...]

    def of(self, content: bytes) -> bytes:
        """Give the content as it is afterwards."""
        damaged = bytearray(content)
        for step in self.steps:
            step.of(damaged)
        return bytes(damaged)


_places = st.integers(0, ANYWHERE - 1)
_TEXTS = [
    b"\0",
    b"\xff",
    b"'",
    b'"',
    b"\\",
    b"{",
    b"]",
    b"=",
    b"\n",
    b"[[pairs]]\n",
    b"-1",
    b"1e999",
    b"..",
    b"/",
    b"\xc3",
]
_steps = st.one_of(
    st.builds(Put, _places, st.binary(min_size=1, max_size=6) | st.sampled_from(_TEXTS), st.booleans()),
    st.builds(Cut, _places, st.integers(1, 40)),
    st.builds(Cut, _places, st.none()),
    st.builds(Copied, _places, _places, st.sampled_from([16, 512, 4096])),
)
damages: st.SearchStrategy[Damage] = st.lists(_steps, min_size=1, max_size=4).map(lambda steps: Damage(tuple(steps)))
