"""One law, held against random histories of three people who share a source and can reach its mirror.

Nobody can read in mirror, versions, logs or state what they could not read in the source at some time before, and
nothing outside is changed. Each file's content and name are like no other's, so what leaks is known by what is read.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from job.core.outcome import Result
from tests import workers
from tests.engine.workshop import Workshop
from tests.faults.rig import Rig
from tests.state.people import ACCESS, ALICE, BOB, DEFAULT, EVE, PEOPLE, TEAM, acl, attempt, readable

FAST = Path("/dev/shm")

people = st.sampled_from(PEOPLE)
OWNER = 0
doers = st.sampled_from([OWNER, OWNER, OWNER, *PEOPLE])
"""Who does a thing: mostly whoever owns what it is done to, since others are mostly kept from it."""
picks = st.integers(0, 10_000)
folders = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3).map("/".join)
folder_modes = st.sampled_from([0o700, 0o711, 0o750, 0o755, 0o770, 0o777, 0o1777, 0o2775])
file_modes = st.sampled_from([0o600, 0o640, 0o644, 0o604, 0o660, 0o666, 0o444, 0o000])
rights = st.integers(0, 7)


def _deed(name: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """Give what is done, by the name of a method of `Law`, with whatever it is done to."""
    return st.tuples(st.just(name), st.fixed_dictionaries(fields))


in_source = st.one_of(
    _deed("clean_and_publish", number=picks, mode=folder_modes),
    _deed("leave_a_name_to_somebody", number=picks, to=people, mode=folder_modes),
    _deed("close_and_fill", number=picks),
    _deed("create", user=people, folder=folders, mode=file_modes),
    _deed("make_folder", user=people, folder=folders, mode=folder_modes),
    _deed("change_a_files_mode", user=doers, number=picks, mode=file_modes),
    _deed("change_a_folders_mode", user=doers, number=picks, mode=folder_modes),
    _deed("give_an_acl", user=doers, number=picks, to=people, given=rights, kind=st.sampled_from([ACCESS, DEFAULT])),
    _deed("take_an_acl_away", user=doers, number=picks),
    _deed("put_into_the_team", user=doers, number=picks),
    _deed("rename", user=doers, number=picks, to=folders),
    _deed("rename_a_folder", user=doers, number=picks, to=folders),
    _deed("give_another_name", user=doers, number=picks, to=folders),
    _deed("remove", user=doers, number=picks),
    _deed("swap_for_a_link", user=doers, number=picks, folder=folders),
    _deed("have_root_give_it_to_somebody", number=picks, to=people),
)
in_mirror = st.one_of(
    _deed("rename_in_the_mirror", user=doers, number=picks, to=folders),
    _deed("swap_in_the_mirror", user=doers, number=picks, other=picks),
    _deed("rename_the_state_folder", user=doers, number=picks),
    _deed("plant_a_state_folder", user=people),
    _deed("make_a_folder_in_the_mirror", user=people, folder=folders, mode=folder_modes),
    _deed("remove_from_the_mirror", user=doers, number=picks),
    _deed("change_a_mode_in_the_mirror", user=doers, number=picks, mode=folder_modes),
    _deed("give_an_acl_in_the_mirror", user=doers, number=picks, kind=st.sampled_from([ACCESS, DEFAULT])),
    _deed("swap_for_a_link_in_the_mirror", user=doers, number=picks, folder=folders),
)


def is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


class Law(RuleBasedStateMachine):
    """A shared folder, its mirror, and three people who do as they like in both."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(dir=FAST if FAST.is_dir() else None))
        self.base.chmod(0o755)
        self.shop = Workshop(self.base)
        pair = {"name": self.shop.pair.name, "source": str(self.shop.source), "dest": str(self.shop.mirror)}
        self.rig = Rig(self.base, {"pairs": [pair], "log_level": "debug", "audit_interval": 0})
        self.outside = self.base / "outside"
        self.outside.mkdir()
        (self.outside / "file").write_text("untouched")
        self.shop.mirror.chmod(0o755)
        self.numbers = count()
        self.known: dict[int, set[bytes]] = {user: set() for user in PEOPLE}
        """What each of them has been able to read in the source, at whatever time, or wrote."""

    def teardown(self) -> None:
        shutil.rmtree(self.base)

    @initialize(mode=st.sampled_from([0o755, 0o777, 0o1777, 0o2775]))
    def share(self, mode: int) -> None:
        """Let everybody have something private and something open, in a root that some or all may write to."""
        os.chown(self.shop.source, 0, TEAM)
        self.shop.source.chmod(mode)
        for user, name, folder_mode in ((ALICE, "a", 0o700), (BOB, "b", 0o755), (EVE, "c", 0o755)):
            folder = self.shop.source / name
            (folder / name).mkdir(parents=True)
            for place in (folder, folder / name):
                os.chown(place, user, user)
                place.chmod(folder_mode if place == folder else 0o755)
            self.create(user, f"{name}/{name}", 0o644)
            self.create(user, name, 0o644)
        self.learn()
        self.shop.cycle()

    # What people do in the source -------------------------------------------------------------------------------------

    def create(self, user: int, folder: str, mode: int) -> None:
        number = next(self.numbers)
        path = self.shop.source / folder / f"name-{number}"

        def make() -> None:
            path.write_bytes(b"<<%d>>" % number)
            path.chmod(mode)

        if attempt(user, make):
            self.known[user] |= {b"<<%d>>" % number, b"name-%d" % number}

    def make_folder(self, user: int, folder: str, mode: int) -> None:
        path = self.shop.source / folder

        def make() -> None:
            path.mkdir()
            path.chmod(mode)

        attempt(user, make)

    def change_a_files_mode(self, user: int, number: int, mode: int) -> None:
        self._deed(self.shop.source, user, number, lambda path: path.chmod(mode), is_file)

    def change_a_folders_mode(self, user: int, number: int, mode: int) -> None:
        self._deed(self.shop.source, user, number, lambda path: path.chmod(mode), is_folder)

    def give_an_acl(self, user: int, number: int, to: int, given: int, kind: str) -> None:
        self._deed(self.shop.source, user, number, lambda path: os.setxattr(path, kind, acl(to, given)))

    def take_an_acl_away(self, user: int, number: int) -> None:
        self._deed(self.shop.source, user, number, lambda path: os.removexattr(path, ACCESS))

    def clean_and_publish(self, number: int, mode: int) -> None:
        """Have the owner of a folder remove what is in it, and open it then."""

        def publish(path: Path) -> None:
            for each in list(path.iterdir()):
                _remove(each)
            path.chmod(mode)

        self._deed(self.shop.source, OWNER, number, publish, is_folder)

    def leave_a_name_to_somebody(self, number: int, to: int, mode: int) -> None:
        """Have the owner of a folder remove it, and somebody make one of the same name."""
        if path := self._pick(self.shop.source, number, is_folder):
            attempt(self._owner(path), lambda: _remove(path))
            folder = str(path.relative_to(self.shop.source))
            self.make_folder(to, folder, mode)
            self.create(to, folder, 0o644)

    def close_and_fill(self, number: int) -> None:
        """Have the owner of a folder shut everybody out, and put something in then that is open by itself."""
        if path := self._pick(self.shop.source, number, is_folder):
            attempt(self._owner(path), lambda: path.chmod(0o700))
            self.create(self._owner(path), str(path.relative_to(self.shop.source)), 0o644)

    def put_into_the_team(self, user: int, number: int) -> None:
        self._deed(self.shop.source, user, number, lambda path: os.chown(path, -1, TEAM))

    def rename(self, user: int, number: int, to: str) -> None:
        self._deed(self.shop.source, user, number, lambda path: path.rename(self.shop.source / to / path.name))

    def rename_a_folder(self, user: int, number: int, to: str) -> None:
        self._deed(self.shop.source, user, number, lambda path: path.rename(self.shop.source / to), is_folder)

    def give_another_name(self, user: int, number: int, to: str) -> None:
        fresh = f"name-{next(self.numbers)}"
        self._deed(self.shop.source, user, number, lambda path: os.link(path, self.shop.source / to / fresh), is_file)

    def remove(self, user: int, number: int) -> None:
        self._deed(self.shop.source, user, number, _remove)

    def swap_for_a_link(self, user: int, number: int, folder: str) -> None:
        """Put a symlink in the place of something, which leads to a folder of the source, or outside."""

        def swap(path: Path) -> None:
            _remove(path)
            path.symlink_to(self.shop.source / folder if folder else self.outside)

        self._deed(self.shop.source, user, number, swap)

    def have_root_give_it_to_somebody(self, number: int, to: int) -> None:
        if path := self._pick(self.shop.source, number, os.path.lexists):
            os.chown(path, to, to, follow_symlinks=False)

    # What people do in the mirror -------------------------------------------------------------------------------------

    def rename_in_the_mirror(self, user: int, number: int, to: str) -> None:
        self._deed(self.shop.mirror, user, number, lambda path: path.rename(self.shop.mirror / to))

    def swap_in_the_mirror(self, user: int, number: int, other: int) -> None:
        place = self._pick(self.shop.mirror, other, is_folder)

        def swap(path: Path) -> None:
            assert place is not None
            path.rename(path.with_name("aside"))
            place.rename(path)
            path.with_name("aside").rename(place)

        if place is not None:
            self._deed(self.shop.mirror, user, number, swap, is_folder)

    def rename_the_state_folder(self, user: int, number: int) -> None:
        def rename(path: Path) -> None:
            if path != self.shop.state:
                path.rename(path.with_name("aside"))
            self.shop.state.rename(path)

        self._deed(self.shop.mirror, user, number, rename, is_folder)

    def plant_a_state_folder(self, user: int) -> None:
        def plant() -> None:
            (self.shop.state / "versions").mkdir(parents=True)
            self.shop.state.chmod(0o777)

        attempt(user, plant)

    def make_a_folder_in_the_mirror(self, user: int, folder: str, mode: int) -> None:
        attempt(user, lambda: (self.shop.mirror / folder).mkdir(mode=mode))

    def remove_from_the_mirror(self, user: int, number: int) -> None:
        self._deed(self.shop.mirror, user, number, _remove)

    def change_a_mode_in_the_mirror(self, user: int, number: int, mode: int) -> None:
        self._deed(self.shop.mirror, user, number, lambda path: path.chmod(mode))

    def give_an_acl_in_the_mirror(self, user: int, number: int, kind: str) -> None:
        self._deed(self.shop.mirror, user, number, lambda path: os.setxattr(path, kind, acl(user, 7)))

    def swap_for_a_link_in_the_mirror(self, user: int, number: int, folder: str) -> None:
        def swap(path: Path) -> None:
            _remove(path)
            path.symlink_to(self.shop.mirror / folder if folder else self.outside)

        self._deed(self.shop.mirror, user, number, swap)

    # Histories --------------------------------------------------------------------------------------------------------

    @rule(deeds=st.lists(in_source, min_size=1, max_size=4))
    def live(self, deeds: list[tuple[str, dict[str, Any]]]) -> None:
        for name, fields in deeds:
            getattr(self, name)(**fields)
            self.learn()

    @rule(deeds=st.lists(in_mirror, min_size=1, max_size=3))
    def meddle(self, deeds: list[tuple[str, dict[str, Any]]]) -> None:
        for name, fields in deeds:
            getattr(self, name)(**fields)

    # What root's job does ---------------------------------------------------------------------------------------------

    @rule()
    def cycle(self) -> None:
        told = self.shop.cycle()

        assert told.result in {Result.SUCCESS, Result.PARTIAL, Result.REFUSED}
        if told.result is not Result.SUCCESS:
            self.have_root_clear_up()

    @rule(steps=st.integers(0, 60))
    def kill_a_cycle(self, steps: int) -> None:
        self.shop.killed_cycle(steps)

    @rule(calls=st.integers(1, 20))
    def stop_a_cycle(self, calls: int) -> None:
        left = iter(range(calls))
        self.shop.cycle(stop=lambda: next(left, None) is None)

    @rule()
    def cycle_beside_somebody_who_watches(self) -> None:
        """Look at every moment at which the job asks whether to stop."""

        def look() -> bool:
            self.nobody_reads_what_is_not_theirs()
            return False

        self.shop.cycle(stop=look)

    @rule()
    def run_the_command(self) -> None:
        """Have the job run as its users run it, with logs and metrics in a folder that everybody may look into."""
        done = self.rig.once()

        assert done.code in {0, 3, 4}, done
        if done.code:
            self.have_root_clear_up()

    @rule()
    def lose_the_index(self) -> None:
        (self.shop.state / "index.sqlite3").unlink(missing_ok=True)

    def have_root_clear_up(self) -> None:
        """Do as the refusal says: put away what is no state folder of ours."""
        with suppress(FileNotFoundError):
            if self.shop.state.lstat().st_uid != 0:
                _remove_all(self.shop.state)

    # The law ----------------------------------------------------------------------------------------------------------

    def learn(self, root: Path | None = None) -> None:
        """Note what each of them can read in the source as it is, or in another folder."""
        for user in PEOPLE:
            self.known[user] |= readable(user, [root or self.shop.source])

    @invariant()
    def nobody_reads_what_is_not_theirs(self) -> None:
        self.learn()
        mine = {self.shop.source, self.outside}
        for user in PEOPLE:
            leaked = readable(user, [path for path in self.base.iterdir() if path not in mine]) - self.known[user]
            assert not leaked, (user, leaked)

    @invariant()
    def nothing_outside_is_changed(self) -> None:
        assert [path.name for path in self.outside.iterdir()] == ["file"]
        assert (self.outside / "file").read_text() == "untouched"
        assert (self.outside / "file").stat().st_uid == 0

    # How a thing is found ---------------------------------------------------------------------------------------------

    def _pick(self, root: Path, number: int, fits: Callable[[Path], bool]) -> Path | None:
        found = [
            path for path in sorted(root.rglob("*")) if self.shop.state not in (path, *path.parents) and fits(path)
        ]
        return found[number % len(found)] if found else None

    def _deed(
        self,
        root: Path,
        user: int,
        number: int,
        deed: Callable[[Path], object],
        fits: Callable[[Path], bool] = os.path.lexists,
    ) -> None:
        """Have somebody try something on one of the paths below a root."""
        if path := self._pick(root, number, fits):
            attempt(user or self._owner(path), lambda: deed(path))
        self._note_what_was_given(root)

    def _owner(self, path: Path) -> int:
        owner = path.lstat().st_uid
        return owner if owner in PEOPLE else EVE

    def _note_what_was_given(self, root: Path) -> None:
        """Note what people opened to each other in the mirror by themselves: the kernel let them, so it was theirs."""
        if root == self.shop.mirror:
            self.learn(root)


def _remove(path: Path) -> None:
    if is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink()


def _remove_all(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)


class ManyLaws(Law):
    """The same, much longer."""


def _settings(examples: int) -> settings:
    return settings(
        deadline=None,
        max_examples=examples,
        stateful_step_count=20,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


TestLaw = pytest.mark.needs_root(pytest.mark.timeout(600)(Law.TestCase))
TestLaw.settings = _settings(workers.share(20, 8, 4))
TestManyLaws = pytest.mark.slow(pytest.mark.needs_root(pytest.mark.timeout(7200)(ManyLaws.TestCase)))
TestManyLaws.settings = _settings(400)
