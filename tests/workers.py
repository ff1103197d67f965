"""How many workers the jobs under test have.

Left alone, a job decides for itself, and none of the small trees here is worth a worker: that is one process. With
`pytest --workers=2` (or 8) every job gets so many whatever its size, by the config keys `workers` and `workers_from`,
and its work is cut so finely that each folder may go to another worker: the same tests then hold the invariants against
processes side by side. `.ci/run` does that with 2 and with 8; `make test-slow PYTEST_ARGS=--workers=8` does the whole
sweeps. What a test asks for in its own config wins. What has nothing to say about workers, or counts the steps of one
process, is marked `one_process` and left out then.

Run as a program this is `truecopy` with finely cut work.
"""

import sys
from typing import Any

from job.cli.main import main
from job.engine.dispatch import parallel_scan, queue

FORCED: dict[str, Any] = {}
"""Config keys that every job under test gets; filled by `tests/conftest.py`."""


def force(count: int) -> None:
    """Give every job so many workers."""
    FORCED.update(workers=count, workers_from=0)
    cut_finely()


def share(alone: int, between_two: int, between_more: int) -> int:
    """Choose a number of cases that every run tries: each case takes the longer, the more workers it has."""
    count = FORCED.get("workers", 1)
    return alone if count == 1 else between_two if count == 2 else between_more


def cut_finely() -> None:
    """Let no errand have more than one folder, and no look of the main process either."""
    vars(queue)["_MOST_FOLDERS"] = vars(parallel_scan)["_FOLDERS_AT_ONCE"] = 1


def command(*, finely: bool) -> list[str]:
    """Give the command line of a job, perhaps with finely cut work."""
    return [sys.executable, "-m", "tests.workers" if finely or FORCED else "job"]


if __name__ == "__main__":
    cut_finely()
    sys.exit(main())
