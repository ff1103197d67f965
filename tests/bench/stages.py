"""What a benchmark does in which order: a stage for each size of the tree, and the works of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import trees
from tests.bench.comparison import Comparison
from tests.bench.results import Result
from tests.bench.scratch import TMPFS, Scratch, Sizes
from tests.bench.tools import Tool
from tests.bench.works import Place, Work

COPIES_UP_TO = 100_000
"""Works that copy or read are done with the largest tree that is not above this number of files."""
HUGE_ABOVE = 200_000
"""Above this number of files a mirror takes minutes and gigabytes, hence fewer runs and fewer tools."""
HUGE_RUNS = 2
HUGE_TOOLS = ("truecopy", "rsync")


@dataclass(frozen=True, slots=True)
class Stage:
    """One size of the tree, the works that are timed with it, and who takes part."""

    sizes: Sizes
    works: Sequence[Work]
    tools: Sequence[Tool]

    @property
    def room(self) -> int:
        """How many bytes of disk it takes: the source, the standing mirrors, and one that is being made."""
        return self.sizes.tree_bytes * (2 + len(self.tools))


def stages(files: Sequence[int], sizes: Sizes, works: Sequence[Work], tools: Sequence[Tool]) -> list[Stage]:
    """Deal the works out over the numbers of files; `sizes` says everything else."""
    copied = max((count for count in files if count <= COPIES_UP_TO), default=min(files))
    dealt = [
        (replace(sizes, files=count), [work for work in works if work.each_size or count == copied])
        for count in sorted(set(files))
    ]
    return [Stage(size, chosen, tools) for size, chosen in dealt if chosen]


def lightened(stage: Stage) -> Stage:
    """Leave out of a huge stage what would take longest: rounds, and tools that no target of that size is about."""
    if stage.sizes.files <= HUGE_ABOVE:
        return stage
    sizes = replace(stage.sizes, runs=min(stage.sizes.runs, HUGE_RUNS))
    return Stage(sizes, stage.works, [tool for tool in stage.tools if tool.name in HUGE_TOOLS])


def perform(
    stage: Stage, folders: Mapping[Place, Path], tell: Callable[[str], None], good: Callable[[Result], bool]
) -> list[Result]:
    """Do the works of a stage; one whose result is not good is done once more, and the second result counts.

    Raises `BenchError` when a tool fails or makes another tree.
    """
    own = {place: folder / f"{stage.sizes.files}" for place, folder in folders.items()}
    for folder in own.values():
        folder.mkdir()
    missing = {} if Place.TMPFS in own else {Place.TMPFS: f"{TMPFS} is no tmpfs to write to"}
    scratch = Scratch(stage.sizes, own, missing)
    comparison = Comparison(stage.tools, scratch)
    results: list[Result] = []
    standing = False
    for number, work in enumerate(stage.works):
        if not work.fresh and not standing:
            tell(f"{stage.sizes.files:,} files: each tool makes its mirror")
            results.append(comparison.stand_mirrors())
            standing = True
        tell(Result(work, stage.sizes.of(work)).title)
        result = comparison.perform(work)
        if not good(result):
            tell(f"{result.title}: once more")
            result = comparison.perform(work)
        results.append(result)
        _make_room(work, stage.works[number + 1 :], scratch)
    # The next stage gets the disk and the page cache to itself; why nothing is removed: see README.md.
    trees.hollow(own[Place.DISK])
    return results


def _make_room(work: Work, later: Sequence[Work], scratch: Scratch) -> None:
    if work.place is Place.TMPFS and not any((each.place, each.source) == (work.place, work.source) for each in later):
        scratch.drop_source(work)
