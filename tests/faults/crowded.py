"""Run as a program this is `truecopy` for which every folder of a few entries is huge, with finely cut work."""

import sys

from job.cli.main import main
from job.engine import scan
from job.fs import large_dir, listing
from tests import workers

FEW = 16
"""What counts as huge; workers of one-shot runs are forks, and know of it."""


def make_huge_small() -> None:
    """Have folders of `FEW` entries go in parts."""
    for module in (listing, large_dir, scan, large_dir):
        vars(module)["CHUNK"] = FEW
    for module in (listing, large_dir):
        vars(module)["AT_ONCE"] = FEW // 4
    vars(listing)["SHARE"] = 3 * FEW


def prepare() -> None:
    """Make this process such a `truecopy`."""
    make_huge_small()
    workers.cut_finely()


if __name__ == "__main__":
    prepare()
    sys.exit(main())
