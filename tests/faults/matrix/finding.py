"""What was found after a fault, and the score that follows from it. Pure."""

from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any

_SHORT = 160


class Score(IntEnum):
    """How a tool took a fault."""

    WRONG_AND_SILENT = 0
    WRONG_BUT_TOLD = 1
    SAFE_BUT_SILENT = 2
    SAFE_AND_TOLD = 3


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a look at trees, output and exit code found."""

    told: bool
    """Whether who reads the exit code or what the tool says of errors and omissions learns of it."""
    wrong: tuple[str, ...] = ()
    """Damage, whatever was said of it: lost or mixed content, something outside read or written, a healthy file left
    out for the sake of another one."""
    absent: tuple[str, ...] = ()
    """What could not be copied: right if it was said, and as wrong as damage if the copy passes for a whole one."""
    lesser: tuple[str, ...] = ()
    """What is gone or was not noticed without harm to any content."""
    left: int = 0
    """Healthy files that were not brought up to date."""
    code: int | None = 0
    """The exit code; None for a tool that hung and had to be ended."""
    said: str = ""
    """The first of what it said."""

    @property
    def score(self) -> Score:
        if self.wrong:
            return Score.WRONG_BUT_TOLD if self.told else Score.WRONG_AND_SILENT
        if self.told or not (self.absent or self.lesser):
            return Score.SAFE_AND_TOLD
        return Score.WRONG_AND_SILENT if self.absent else Score.SAFE_BUT_SILENT


@dataclass(frozen=True)
class Outcome:
    """How a tool's run ended."""

    code: int | None
    """None: it hung and had to be ended."""
    complaints: tuple[str, ...] = field(default=())
    """What it said of errors and omissions."""

    def tells(self, *names: str) -> bool:
        """Tell whether its user learns of it: by the exit code, or by what it says (of these names, if any matter)."""
        return bool(self.code) or any(not names or any(name in line for name in names) for line in self.complaints)

    def finding(self, *names: str, **found: Any) -> Finding:
        """Judge what was `found` beside this outcome; `names` are those that it should have said."""
        said = next((line for line in self.complaints if any(name in line for name in names)), "")
        first = said or next(iter(self.complaints), "")
        return Finding(told=self.tells(*names), code=self.code, said=first, **found)


def plain(finding: Finding) -> dict[str, object]:
    """Give a finding as JSON has it, without what says nothing."""
    kept = {name: value for name, value in asdict(finding).items() if value not in ((), 0, "", False)}
    return {"score": int(finding.score), **kept, "code": finding.code, "said": finding.said[:_SHORT]}
