"""What CI holds the quick benchmark to: ratios, never times, and only against a gross regression. Pure."""

from collections.abc import Sequence

from tests.bench.results import Result

BOUNDS = {
    ("first_copy_tmpfs", "rsync"): 7.5,
    ("first_copy_tmpfs", "original"): 3.0,
    ("large_sha256", "rsync"): 6.5,
    ("large_blake3", "rsync"): 6.5,
    ("first_copy_durable", "rsync"): 6.5,
    ("unchanged", "rsync"): 9.0,
    ("unchanged", "original"): 1.2,
    ("unchanged_audited", "rsync"): 10.0,
    ("by_checksum", "rsync"): 10.5,
    ("changed", "rsync"): 10.5,
}
"""The most that the median ratio of a quick run may be: about three times what it shows on a machine with other work.

Trees of that size measure little but how long each program takes to start, hence nothing here is near a target. When
the engine gets faster the bounds come down: three times what `--quick` prints.
"""


def broken(results: Sequence[Result]) -> list[str]:
    """Name every ratio that is above its bound. A work or peer that is not here breaks nothing."""
    found = []
    for result in results:
        for peer, ratio in result.ratios.items():
            bound = BOUNDS.get((result.work.name, peer))
            if bound is not None and ratio.middle > bound:
                found.append(f"{result.title}, against {peer}: {ratio}, the bound is {bound:g}")
    return found
