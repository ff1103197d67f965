"""What CI holds the quick benchmark to: ratios, never times, and only against a gross regression. Pure."""

from collections.abc import Sequence

from tests.bench.results import Result

BOUNDS = {
    ("first_copy_tmpfs", "rsync"): 12.0,
}
"""The most that the median ratio of a quick run may be: about three times what a quiet machine shows.

Small trees measure little but how long each program takes to start, which is why these are nowhere near the targets.
When the engine gets faster, they come down: three times the figure that `--quick` prints.
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
