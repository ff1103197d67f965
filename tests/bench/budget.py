"""The budgets of the plain case: how many system calls and Python calls each work may cost a file.

Counts do not vary with the load of the machine, as times do. Two trees are measured, 2,000 plain files in 100 folders
and 200 in 10, and the difference is divided by its 1,800 files: this removes the start of the interpreter and all that
a run costs once, and keeps the share of the folders and of one batch. One process (`workers: 1`), every other key has
its default. `python -m tests.bench.budget` prints the figures beside the ceilings, with `--list` each system call and
function by name; with `--modules` it drops from the list of modules those that a start no longer imports.
"""

import argparse
import compileall
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from job.core.record import CLOCK_GRAIN_NS
from tests.bench.counted import MOUNT_TABLE
from tests.bench.errors import BenchError
from tests.bench.scratch import TMPFS

ROOT = Path(__file__).resolve().parents[2]
MODULES = Path(__file__).with_name("start_modules.txt")
PYTHON_OF_MODULES = (3, 11)

SMALL, LARGE = 10, 100
"""Folders of the two trees."""
FILES_A_FOLDER = 20
CHANGED_EVERY = 10
"""Every so many folders one has changed files: 20 files in 10 folders of the large tree."""
CHANGED_FILES = (3, 11)
OLD_NS = 10**18
ELSEWHERE = "org"
"""Tried by `copy` of older Pythons; exists in Jython only."""

NOT_COUNTED = frozenset(
    {"brk", "madvise", "mmap", "mprotect", "mremap", "munmap"}  # memory: vary with address randomisation
    | {"futex", "restart_syscall", "sched_yield"}  # threads that take turns: vary with the load of the machine
)
SHOWN_FROM = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The ceilings of one work, in calls a unit, and the targets of issue 14."""

    work: str
    title: str
    unit: str
    system_calls: float
    system_calls_wanted: float
    python_calls: float
    python_calls_wanted: float | None
    spent_on: str
    """What the system calls are for, with their number a unit; those of folders are shared by their files."""
    options: tuple[tuple[str, object], ...] = ()
    """Keys of the configuration beyond those of a first copy."""

    @property
    def units(self) -> int:
        """Units of the difference of the two trees."""
        folders = LARGE - SMALL
        return folders * FILES_A_FOLDER + (folders if self.unit == "entry" else 0)


# A ceiling is only ever lowered: it is the figure of the commit that lowered it last, rounded up by at most 3 %, which
# leaves room for another SQLite or Python. In ten runs on a busy machine no figure varied by more than 0.002. They are
# the figures of an ordinary user; root needs as many system calls, and up to 2.7 Python calls less.
BUDGETS = (
    Budget(
        work="first",
        title="first copy",
        unit="file",
        system_calls=13.1,
        system_calls_wanted=14,
        python_calls=15.1,
        python_calls_wanted=25,
        spent_on="1 stat: scan; 5 on the source: open, read, flistxattr, fstat, close; "
        "5 on the copy, in a staged folder: open, write, utimensat, fstat, close; "
        "1.8 for folders: listed, made, staged, opened three times, metadata, renamed, index",
    ),
    Budget(
        work="unchanged",
        title="nothing changed",
        unit="file",
        system_calls=1.7,
        system_calls_wanted=1.5,
        python_calls=1.92,
        python_calls_wanted=2,
        spent_on="1 stat; 0.7 for folders: opened and listed, stat of the mirror folder, index",
    ),
    Budget(
        work="audit",
        title="audit due",
        unit="file",
        system_calls=3.25,
        system_calls_wanted=2.8,
        python_calls=3.05,
        python_calls_wanted=4,
        spent_on="2 stat: source, mirror; 1.2 for folders: opened and listed on both sides, index",
        options=(("audit_interval", 0),),
    ),
    Budget(
        work="checksum",
        title="by checksum",
        unit="file",
        system_calls=12.1,
        system_calls_wanted=12,
        python_calls=12.6,
        python_calls_wanted=15,
        spent_on="1 stat: scan; 5 on each side: open, read, flistxattr, fstat, close; "
        "1 for folders: opened and listed, opened again on both sides, stat of the mirror folder, index",
        options=(("compare", "checksum"),),
    ),
    Budget(
        work="unkept",
        title="1 % changed, without versions",
        unit="entry",
        system_calls=1.97,
        system_calls_wanted=1.9,
        python_calls=3.75,
        python_calls_wanted=None,
        spent_on="1.66 as if nothing had changed; 0.1 for changed folders: opened four times, mirror listed once; "
        "0.2 for the copies and the index",
        options=(("versions", False),),
    ),
    Budget(
        work="changed",
        title="1 % changed",
        unit="entry",
        system_calls=1.97,
        system_calls_wanted=1.9,
        python_calls=4.06,
        python_calls_wanted=None,
        spent_on="as without versions; 0.04 for versions: 1 link a file, and for a changed folder made, opened, noted",
    ),
)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """Make a folder, in memory if possible: on a disk each sync waits for what other processes wrote."""
    return tempfile.TemporaryDirectory(dir=TMPFS if os.access(TMPFS, os.W_OK) else None)


class Calls(NamedTuple):
    """System calls and Python calls by name: totals of a run, or a share of a unit."""

    system: Mapping[str, float]
    python: Mapping[str, float]


def measure(folder: Path) -> dict[str, Calls]:
    """Return the calls of each work a unit, measured in an existing empty folder. Raises `BenchError`."""
    compileall.compile_dir(ROOT / "job", quiet=2)  # or one run compiles what another one finds compiled
    (folder / "mounts").write_bytes(Path(MOUNT_TABLE).read_bytes())
    with ThreadPoolExecutor(2) as pool:
        small, large = pool.map(lambda count: _runs(folder / f"{count:03d}", count), (SMALL, LARGE))
    return {
        budget.work: Calls(
            *(_difference(more, less, budget.units) for more, less in zip(large[number], small[number], strict=True))
        )
        for number, budget in enumerate(BUDGETS)
    }


def _difference(more: Mapping[str, float], less: Mapping[str, float], units: int) -> dict[str, float]:
    return {name: (more.get(name, 0) - less.get(name, 0)) / units for name in sorted(more.keys() | less.keys())}


def _runs(folder: Path, folders: int) -> list[Calls]:
    """Do the works one after the other on a new tree, in the order of the table; return the calls of each."""
    grow(folder / "source", folders)
    found = []
    for number, budget in enumerate(BUDGETS):
        if budget.unit == "entry":
            change(folder / "source", folders, number)
        found.append(_run(folder, budget))
    return found


def grow(root: Path, folders: int) -> None:
    """Make a tree of plain files with old times."""
    for number in range(folders):
        folder = root / f"folder {number:03d}"
        folder.mkdir(parents=True)
        for each in range(FILES_A_FOLDER):
            _write(folder / f"file {each:02d}.dat", bytes([each]) * (1000 + 37 * each), OLD_NS)


def change(root: Path, folders: int, turn: int) -> None:
    """Rewrite 1 % of the files, two in every tenth folder, differently in each turn."""
    for number in range(0, folders, CHANGED_EVERY):
        for each in CHANGED_FILES:
            _write(root / f"folder {number:03d}" / f"file {each:02d}.dat", bytes(3000 + each), OLD_NS + turn * 10**10)


def _write(path: Path, content: bytes, time_ns: int) -> None:
    path.write_bytes(content)
    os.utime(path, ns=(time_ns, time_ns))


def _run(folder: Path, budget: Budget) -> Calls:
    config, system, python = folder / "config.json", folder / "system calls", folder / "python calls"
    configure(folder, dict(budget.options))
    strace = ["strace", "-f", "-qq", "-c", "-U", "calls,name", "-o", str(system)]
    program = [sys.executable, "-m", "tests.bench.counted", str(python), str(folder.parent / "mounts")]
    run([*strace, *program, "--config", str(config), "run", "--once"], folder)
    rows = [line.split() for line in system.read_text("utf-8").splitlines()]
    calls = {row[1]: int(row[0]) for row in rows if len(row) == 2 and row[0].isdecimal()}
    kept = {name: count for name, count in calls.items() if name not in NOT_COUNTED | {"total"}}
    return Calls(kept, json.loads(python.read_text("utf-8")))


def configure(folder: Path, options: Mapping[str, object]) -> None:
    """Write `config.json` for the pair of `source` and `mirror` in the folder."""
    keys = {
        "run_enabled": "Y",
        "source_dirs": [str(folder / "source")],
        "dest_dirs": [str(folder / "mirror")],
        "log_file": str(folder / "backup.log"),
        "error_log_file": str(folder / "error.log"),
        "sleep_time": 30,
        "workers": 1,
    }
    (folder / "config.json").write_text(json.dumps({**keys, **options}), "utf-8")


def run(command: Sequence[str], folder: Path) -> str:
    """Run a command in a fixed environment; return its standard error. Raises `BenchError` if it fails."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
    }
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(
            f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stderr


def start_modules(folder: Path) -> list[str]:
    """Return the modules that a run with nothing to do imports on a tree of one file, beyond those of the interpreter.

    Without `site`, whose modules depend on the machine; on another Python than that of the fixture without the standard
    library, too. Raises `BenchError`.
    """
    (folder / "source").mkdir()
    _write(folder / "source" / "file.dat", b"content", OLD_NS)
    configure(folder, {})
    python = [sys.executable, "-S", "-X", "importtime"]
    command = [*python, "-m", "job", "--config", str(folder / "config.json"), "run", "--once"]
    time.sleep(CLOCK_GRAIN_NS / 1e9)  # a younger folder is synced again by the next run
    run(command, folder)
    known = set(_imported(run([*python, "-c", "pass"], folder)))
    return sorted(comparable(set(_imported(run(command, folder))) - known))


def _imported(report: str) -> Iterator[str]:
    for line in report.splitlines():
        if line.startswith("import time:") and not line.endswith("imported package"):
            yield line.rpartition("|")[2].strip()


def comparable(modules: Iterable[str]) -> Iterator[str]:
    """Leave out what depends on the version of Python."""
    left_out = {ELSEWHERE} if sys.version_info[:2] == PYTHON_OF_MODULES else {ELSEWHERE, *sys.stdlib_module_names}
    return (name for name in modules if name.partition(".")[0] not in left_out)


def section() -> str:
    """Return the table of the ceilings for the README."""
    head = [
        "work",
        "for each",
        "system calls at most (wanted)",
        "Python calls at most (wanted)",
        "system calls are for",
    ]
    rows = [head, ["---"] * len(head)]
    for budget in BUDGETS:
        wanted = "" if budget.python_calls_wanted is None else f" ({budget.python_calls_wanted:g})"
        calls = f"{budget.system_calls:g} ({budget.system_calls_wanted:g})"
        rows.append([budget.title, budget.unit, calls, f"{budget.python_calls:g}{wanted}", budget.spent_on])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def overruns(measured: Mapping[str, Calls]) -> list[str]:
    """Return a line for each figure above its ceiling."""
    return [
        f"{budget.title}: {figure:.3f} {kind} calls for each {budget.unit}, at most {ceiling:g} are allowed"
        for budget in BUDGETS
        for kind, calls, ceiling in zip(
            ("system", "Python"), measured[budget.work], (budget.system_calls, budget.python_calls), strict=True
        )
        if (figure := sum(calls.values())) > ceiling
    ]


def main(arguments: Sequence[str]) -> int:
    """Print the figures beside the ceilings."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.budget")
    parser.add_argument("--list", action="store_true", help="print every system call and function by name")
    parser.add_argument("--modules", action="store_true", help="drop modules that a start no longer imports")
    options = parser.parse_args(arguments)
    with scratch() as name:
        if options.modules:
            _drop_modules(Path(name))
        else:
            _print(measure(Path(name)), names=options.list)
    return 0


def _drop_modules(folder: Path) -> None:
    kept = sorted(set(start_modules(folder)) & set(MODULES.read_text("utf-8").split()))
    MODULES.write_text("".join(f"{name}\n" for name in kept), "utf-8")


def _print(measured: Mapping[str, Calls], *, names: bool) -> None:
    for budget in BUDGETS:
        calls = measured[budget.work]
        sums = [
            f"{sum(calls.system.values()):.3f} system calls (at most {budget.system_calls:g})",
            f"{sum(calls.python.values()):.3f} Python calls (at most {budget.python_calls:g})",
        ]
        sys.stdout.write(f"{budget.title}, for each {budget.unit}: {', '.join(sums)}\n")
        for each in calls if names else ():
            sys.stdout.writelines(
                f"  {count:7.3f}  {name}\n" for name, count in Counter(each).most_common() if abs(count) >= SHOWN_FROM
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
