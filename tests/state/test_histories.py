"""Random histories of both sides, held against what anybody would expect of a mirror.

After every cycle the mirror is as its source, every content that it ever held is in it or among the versions, nothing
was called drift that we did ourselves, and a second cycle has nothing to do.
"""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from job.core.outcome import Result
from tests import workers
from tests.engine.workshop import HOUR_NS, Told, Workshop, seen, with_sync

TEN_YEARS_NS = 10 * 365 * 24 * HOUR_NS

TICK_SECONDS = 0.011
"""Longer than the kernel's clock stands still, so that no two changes of ours have one time by chance."""
FAST = Path("/dev/shm")

NAMES = ["a", "b", "c d", os.fsdecode(b"\xff\n")]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
texts = st.sampled_from(["", "x", "yz", "zy", "longer"])
picks = st.integers(0, 10_000)
modes = st.sampled_from([0o600, 0o640, 0o755, 0o777, 0o4755])
times_ns = st.sampled_from([-5, 0, 10**18 + 7, 4 * 10**18])


def kind(path: Path) -> int:
    return stat.S_IFMT(path.lstat().st_mode)


def is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


def on_one_device(*paths: Path) -> bool:
    """Tell whether a name can be given to another path's file, which may be missing still."""
    return len({path.parent.lstat().st_dev for path in paths}) == 1


def below(root: Path) -> list[Path]:
    """Give everything below a root but our own state, in order, links not followed."""
    found = sorted(path.relative_to(root) for path in root.rglob("*"))
    return [path for path in found if path.parts[0] != ".truecopy"]


class History(RuleBasedStateMachine):
    """A pair that things happen to."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(dir=FAST if FAST.is_dir() else None))
        self.shop = Workshop(self.base)
        self.strangers = 0
        self.touched = False
        """Whether anything happened since the last whole cycle. A cycle is the likelier then."""
        self.meddled = False
        """Whether anybody but us was at the mirror since the last whole cycle."""

    def teardown(self) -> None:
        shutil.rmtree(self.base)

    @initialize()
    def never_empty(self) -> None:
        """Keep a file that no rule touches: an empty source is refused, which other tests see to."""
        for name in ("kept", "a/a", "a/b", "b"):
            self.shop.write(name)
        self.shop.cycle()

    # What happens in the source ---------------------------------------------------------------------------------------

    def _free(self, path: str) -> Path | None:
        """Give a path of the source at which something can be made, with the folders above it."""
        place = self.shop.source / path
        for above in reversed(place.relative_to(self.shop.source).parents):
            folder = self.shop.source / above
            if not os.path.lexists(folder):
                folder.mkdir()
            elif not is_folder(folder):
                return None
        return None if os.path.lexists(place) else place

    def _pick(self, root: Path, number: int, fits: Callable[[Path], bool]) -> Path | None:
        found = [root / path for path in below(root) if path.name != "kept" and fits(root / path)]
        self.touched |= bool(found)
        return found[number % len(found)] if found else None

    @rule(path=paths, text=texts)
    def create(self, path: str, text: str) -> None:
        if place := self._free(path):
            place.write_text(text)

    @rule(path=paths, text=paths)
    def link(self, path: str, text: str) -> None:
        if place := self._free(path):
            place.symlink_to(text)

    @rule(number=picks, path=paths)
    def give_another_name(self, number: int, path: str) -> None:
        old, place = self._pick(self.shop.source, number, _is_no_folder), self._free(path)
        if old and place and os.path.lexists(old) and on_one_device(old, place):
            os.link(old, place, follow_symlinks=False)

    @rule(number=picks, other=picks)
    def make_two_files_one(self, number: int, other: int) -> None:
        path, place = (self._pick(self.shop.source, each, _is_no_folder) for each in (number, other))
        if path and place and path != place and on_one_device(path, place):
            place.unlink()
            os.link(path, place, follow_symlinks=False)

    @rule(number=picks)
    def part_a_file_from_its_other_names(self, number: int) -> None:
        if path := self._pick(self.shop.source, number, is_file):
            shutil.copy2(path, path.with_name("fresh"))
            path.with_name("fresh").rename(path)

    @rule(path=paths)
    def make_folder(self, path: str) -> None:
        if place := self._free(path):
            place.mkdir()

    @rule(path=paths)
    def make_pipe(self, path: str) -> None:
        if place := self._free(path):
            os.mkfifo(place)

    @rule(number=picks, text=texts)
    def edit(self, number: int, text: str) -> None:
        if path := self._pick(self.shop.source, number, is_file):
            path.write_text(text)

    @rule(number=picks)
    def edit_keeping_size_and_mtime(self, number: int) -> None:
        if path := self._pick(self.shop.source, number, is_file):
            _edit_hidden(path)

    @rule(number=picks, when_ns=times_ns)
    def touch(self, number: int, when_ns: int) -> None:
        if path := self._pick(self.shop.source, number, os.path.lexists):
            os.utime(path, ns=(when_ns, when_ns), follow_symlinks=False)

    @rule(number=picks, mode=modes)
    def change_mode(self, number: int, mode: int) -> None:
        if path := self._pick(self.shop.source, number, lambda path: is_file(path) or is_folder(path)):
            path.chmod(mode | 0o700 if is_folder(path) else mode)

    @rule(number=picks, to=paths)
    def rename(self, number: int, to: str) -> None:
        path, place = self._pick(self.shop.source, number, os.path.lexists), self._free(to)
        fits = path and place and path not in place.parents and os.path.lexists(path)
        if path and place and fits and on_one_device(path, place):
            path.rename(place)

    @rule(number=picks, other=picks)
    def rename_over(self, number: int, other: int) -> None:
        path, place = (self._pick(self.shop.source, each, is_file) for each in (number, other))
        if path and place and on_one_device(path, place):
            path.rename(place)

    @rule(number=picks)
    def delete(self, number: int) -> None:
        if path := self._pick(self.shop.source, number, os.path.lexists):
            _remove(path)

    # What happens in the mirror ---------------------------------------------------------------------------------------

    def _meddle(self, number: int, fits: Callable[[Path], bool], change: Callable[[Path], object]) -> None:
        if path := self._pick(self.shop.mirror, number, fits):
            change(path)
            self.meddled = True

    @rule(number=picks)
    def edit_the_mirror(self, number: int) -> None:
        self._meddle(number, is_file, _edit_hidden)

    @rule(number=picks)
    def delete_from_the_mirror(self, number: int) -> None:
        self._meddle(number, os.path.lexists, _remove)

    @rule(number=picks, text=texts)
    def replace_in_the_mirror(self, number: int, text: str) -> None:
        def swap(path: Path) -> None:
            path.with_name("fresh").write_text(text)
            path.with_name("fresh").rename(path)

        self._meddle(number, is_file, swap)

    @rule(number=picks, mode=modes)
    def change_a_mode_in_the_mirror(self, number: int, mode: int) -> None:
        self._meddle(number, is_file, lambda path: path.chmod(mode))

    @rule(number=picks)
    def put_a_folder_into_the_mirror(self, number: int) -> None:
        def swap(path: Path) -> None:
            path.unlink()
            path.mkdir()
            self._put_stranger(path)

        self._meddle(number, is_file, swap)

    @rule(number=picks)
    def put_a_file_into_the_mirror(self, number: int) -> None:
        self._meddle(number, is_folder, self._put_stranger)

    def _put_stranger(self, folder: Path) -> None:
        self.strangers += 1
        (folder / f"stranger {self.strangers}").write_text("mine")

    @rule()
    def lose_the_index(self) -> None:
        (self.shop.state / "index.sqlite3").unlink(missing_ok=True)

    # What is configured -----------------------------------------------------------------------------------------------

    @rule(compare=st.sampled_from(["auto", "auto", "checksum"]))
    def compare_otherwise(self, compare: str) -> None:
        self.shop.options["compare"] = compare

    @rule(checksum=st.sampled_from(["sha256", "blake3", "md5"]))
    def hash_otherwise(self, checksum: str) -> None:
        self.shop.options["checksum"] = checksum

    @rule(young=st.booleans())
    def let_time_pass(self, *, young: bool) -> None:
        """Have what changed last be old enough to be believed, or too young for it."""
        self.shop.ahead_ns = 0 if young else HOUR_NS

    @rule(ahead_ns=st.sampled_from([TEN_YEARS_NS, -TEN_YEARS_NS]))
    def have_the_clock_jump(self, ahead_ns: int) -> None:
        """Have a clock that nobody set right, or that somebody set right just now."""
        self.shop.ahead_ns = ahead_ns

    # Cycles -----------------------------------------------------------------------------------------------------------

    @rule(calls=st.integers(1, 20))
    def stop_a_cycle(self, calls: int) -> None:
        left = iter(range(calls))
        self._cycle(lambda: self.shop.cycle(stop=lambda: next(left, None) is None))

    @rule(steps=st.integers(0, 60))
    def kill_a_cycle(self, steps: int) -> None:
        self._cycle(lambda: self.shop.killed_cycle(steps), whole=False)
        self.meddled = True  # as below

    @rule()
    def cycle_on_a_failing_disk(self) -> None:
        def fail() -> None:
            raise OSError(5, "Input/output error")

        self._cycle(lambda: self.shop.cycle(with_sync(fail)), whole=False)
        self.meddled = True  # what was named but not remembered may look like somebody's work

    @rule()
    def cycle(self) -> None:
        told = self._cycle(self.shop.cycle)

        assert (told.failed, told.result, self.shop.temps) == ({}, Result.SUCCESS, [])
        assert told.tally.entries == sum(not is_folder(self.shop.source / path) for path in below(self.shop.source))
        assert self.meddled or told.drift == {}
        self._compare()
        self.touched = False
        self.meddled = False
        again = self._cycle(self.shop.cycle)
        assert (again.copied, again.tally.updated) == ({}, 0)
        assert again.tally.entries == told.tally.entries
        assert self.meddled or again.drift == {}

    @precondition(lambda self: self.touched)
    @rule()
    def cycle_after_a_change(self) -> None:
        self.cycle()

    @precondition(lambda self: self.touched)
    @rule()
    def cycle_soon_after_a_change(self) -> None:
        self.cycle()

    def _cycle(self, run: Callable[[], Told], *, whole: bool = True) -> Told:
        """Run a cycle, and see that it leaves no temp, loses no name, and touches nothing that is not its own."""
        before = {path: self._strange(path) for path in below(self.shop.mirror) if path.name[:10] != ".truecopy-"}
        contents, left = self._contents(self.shop.mirror), set(self.shop.temps)
        time.sleep(TICK_SECONDS)
        told = run()
        time.sleep(TICK_SECONDS)
        after = below(self.shop.mirror)
        retired = self.shop.retired
        held = [self._contents(each) for each in (self.shop.mirror, *(self.shop.state / "versions").glob("*"))]
        assert all(content in [each.get(path) for each in held] for path, content in contents.items())
        assert set(self.shop.temps) <= left or not whole
        gone = set(before) - set(after)
        assert all(str(path) in retired for path in gone)
        assert all(self._strange(path) == was for path, was in before.items() if was is not None and path not in gone)
        assert told.committed == told.tally
        return told

    @staticmethod
    def _contents(root: Path) -> dict[Path, object]:
        """Give what files hold, and where links point, by path."""
        found = {path: root / path for path in below(root) if path.name[:10] != ".truecopy-"}
        return {path: seen(place)[2] for path, place in found.items() if _is_no_folder(place)}

    def _strange(self, path: Path) -> tuple[object, ...] | None:
        """Tell what a file of the mirror is that has no source, nor a folder of the source above it."""
        if os.path.lexists(self.shop.source / path) or is_folder(self.shop.mirror / path):
            return None
        return seen(self.shop.mirror / path)

    def _compare(self) -> None:
        for path in [Path(), *below(self.shop.source)]:
            source = self.shop.source / path
            if kind(source) != stat.S_IFIFO:
                mode, *rest = seen(source)
                without_setuid = str(mode).replace("s", "x") if kind(source) == stat.S_IFREG else mode
                assert seen(self.shop.mirror / path) == (without_setuid, *rest)
        self._compare_links()

    def _compare_links(self) -> None:
        """See that names share a file in the mirror if they do so in the source, and only then."""
        pairs = set()
        for path in below(self.shop.source):
            source = self.shop.source / path
            if kind(source) in {stat.S_IFREG, stat.S_IFLNK}:
                pairs.add((identity(source), identity(self.shop.mirror / path)))
        assert len(pairs) == len({source for source, _ in pairs}) == len({mirror for _, mirror in pairs})


def is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _is_no_folder(path: Path) -> bool:
    return kind(path) in {stat.S_IFREG, stat.S_IFLNK}


def _edit_hidden(path: Path) -> None:
    """Change every byte of a file and none of its size and mtime."""
    before = path.stat()
    with path.open("r+b") as file:
        content = file.read()
        file.seek(0)
        file.write(bytes(byte ^ 1 for byte in content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _remove(path: Path) -> None:
    if is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink()


class ManyHistories(History):
    """The same, of which every run tries a share."""


def _settings(examples: int) -> settings:
    return settings(
        deadline=None,
        max_examples=examples,
        stateful_step_count=30,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


TestHistory = History.TestCase
TestHistory.settings = _settings(workers.share(35, 15, 5))
TestManyHistories = pytest.mark.slow(pytest.mark.timeout(7200)(ManyHistories.TestCase))
TestManyHistories.settings = _settings(300)
