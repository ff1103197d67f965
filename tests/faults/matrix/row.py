"""What a row of the matrix is."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.matrix.finding import Finding
from tests.faults.matrix.scene import Scene

Act = Callable[[Scene], Finding]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault, made for real, and the look at what became of it."""

    number: str
    fault: str
    act: Act
    """Sets the scene, makes the fault, runs the tool and judges."""
    needs: tuple[str, ...] = ()
    """Programs beyond the tools themselves."""
    later: str = ""
    """What Truecopy is still to learn for it."""
    note: str = ""
    """What a reader of the scores has to know."""
    only: str = ""
    """The one tool that it says something about."""


def row(number: str, fault: str, *needs: str, later: str = "", note: str = "", only: str = "") -> Callable[[Act], Row]:
    """Make a row of the function below it."""

    def made(act: Act) -> Row:
        return Row(number=number, fault=fault, act=act, needs=needs, later=later, note=note, only=only)

    return made
