"""What is known of each pair without starting anything: for `truecopy status`."""

from dataclasses import dataclass

from job.adapters.history import History
from job.app.layout import state_folder
from job.core.config.effective import Config
from job.core.totals import PairHistory


@dataclass(frozen=True, slots=True)
class PairStatus:
    """One pair as its state folder tells it."""

    name: str
    source: str
    mirror: str
    history: PairHistory
    trouble: str
    """Why the history could not be read; empty where it could, or where there is none yet."""


def pair_statuses(config: Config) -> list[PairStatus]:
    """Read the history of every pair; nothing is written, and a missing mirror is no error."""
    found = []
    for pair in config.effective_pairs:
        troubles = _Troubles()
        history = History(state_folder(config, pair), failed=troubles).read()
        found.append(PairStatus(pair.name, pair.source, pair.dest, history, "; ".join(troubles.told)))
    return found


class _Troubles:
    def __init__(self) -> None:
        self.told: list[str] = []

    def __call__(self, output: str, error: str) -> None:
        del output
        self.told.append(error)
