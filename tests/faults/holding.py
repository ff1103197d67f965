"""Have a run stop and wait in the middle of a copy, however fast or slow the machine is."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.rig import until

_CODE = """
    import os, time
    from job.fs.copier import Copier
    from job.fs.small_copies import PlainCopier

    place = {place!r}

    def held(real):
        def copy(*arguments, **options):
            os.close(os.open(place + "/reached", os.O_CREAT))
            while not os.path.lexists(place + "/go"):
                time.sleep(0.01)
            return real(*arguments, **options)

        return copy

    Copier.copy, PlainCopier.copy = held(Copier.copy), held(PlainCopier.copy)
"""


@dataclass(frozen=True)
class Holding:
    """Every copy waits from now on until it is let go."""

    place: Path
    """A folder that a run may write to, such as its state."""

    def begin(self, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have every interpreter find the code that waits in the folder `code`."""
        self.place.mkdir(parents=True, exist_ok=True, mode=0o700)
        code.mkdir()
        (code / "sitecustomize.py").write_text(textwrap.dedent(_CODE.format(place=str(self.place))))
        monkeypatch.setenv("PYTHONPATH", str(code))

    def wait(self) -> None:
        """Wait until a copy waits."""
        until((self.place / "reached").exists)

    def let_go(self) -> None:
        """Let all copies go on, now and later."""
        (self.place / "go").touch()
