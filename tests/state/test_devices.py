"""Random histories of a source on several devices, whose inode numbers are equal and whose device numbers change.

Each device is an overlay over a tmpfs of its own: it can be mounted again with all its files, their inode numbers and
their times, and has another device number then, perhaps that which another one had before.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from job.core.outcome import Result
from tests import workers
from tests.engine.workshop import seen
from tests.faults.tampering import run
from tests.state.test_histories import NAMES, History, below, identity, is_file, is_folder, picks

DEVICES = ("one", "two")
PLACES = dict(zip(NAMES, (*DEVICES, "one", "."), strict=True))
"""On which device a path lies, by its first part; the last ones on that of the source's root."""


class Disks:
    """The devices of a source."""

    def __init__(self, base: Path, source: Path) -> None:
        self._base, self._source = base, source
        for name in DEVICES:
            (base / name).mkdir()
            (source / name).mkdir()
            self._format(name)
            self._mount(name)

    def _format(self, name: str) -> None:
        run("mount", "-t", "tmpfs", "-o", "size=16m", name, str(self._base / name))
        for folder in ("lower", "upper", "work"):
            (self._base / name / folder).mkdir()

    def _mount(self, name: str) -> None:
        lower, upper, work = (self._base / name / folder for folder in ("lower", "upper", "work"))
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        run("mount", "-t", "overlay", "-o", options, name, str(self._source / name))

    def mount_again(self, names: list[str]) -> None:
        """Take devices away and mount them again, in that order."""
        for name in names:
            run("umount", "--lazy", str(self._source / name))
        for name in names:
            self._mount(name)

    def exchange(self, name: str) -> None:
        """Have another device in the place of one: its inode numbers begin anew."""
        for root in (self._source, self._base):
            run("umount", "--lazy", str(root / name))
        self._format(name)
        self._mount(name)

    def remove(self) -> None:
        for name in DEVICES:
            for root in (self._source, self._base):
                subprocess.run(["umount", "--lazy", root / name], check=False, capture_output=True)


class DeviceHistory(History):
    """A pair whose source lies on several devices."""

    def __init__(self) -> None:
        super().__init__()
        self.shop.options["cross_mounts"] = True
        self.disks = Disks(self.base, self.shop.source)

    def teardown(self) -> None:
        self.disks.remove()
        super().teardown()

    def _free(self, path: str) -> Path | None:
        return super()._free(f"{PLACES[path.partition('/')[0]]}/{path}")

    def _pick(self, root: Path, number: int, fits: Callable[[Path], bool]) -> Path | None:
        return super()._pick(root, number, lambda path: fits(path) and not os.path.ismount(path))

    @rule(names=st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True), twins=st.booleans())
    def link_alike_on_both_devices(self, names: list[str], *, twins: bool) -> None:
        """Have files on both devices that differ in their content only, perhaps, each with two names."""
        for device in DEVICES:
            places = [self.shop.source / device / name for name in names]
            if not any(os.path.lexists(place) for place in places):
                places[0].write_text(device if not twins else "twin")
                os.link(*places)
                os.utime(places[0], ns=(0, 0))
                self.touched = True

    @rule(names=st.permutations(DEVICES))
    def mount_again(self, names: list[str]) -> None:
        before = [inode for _, inode in self._identities()]
        self.disks.mount_again(names)
        assert [inode for _, inode in self._identities()] == before

    def _identities(self) -> list[tuple[int, int]]:
        return [identity(self.shop.source / path) for path in below(self.shop.source)]

    @rule(name=st.sampled_from(DEVICES))
    def exchange_a_device(self, name: str) -> None:
        self.disks.exchange(name)
        self.touched = True

    @rule(number=picks)
    def put_a_file_in_the_place_of_a_folder(self, number: int) -> None:
        if path := self._pick(self.shop.source, number, is_folder):
            path.rename(path.with_name("aside"))
            path.write_text("a file now")
            shutil.rmtree(path.with_name("aside"))

    @rule(number=picks)
    def put_a_link_in_the_place_of_a_mirror_folder(self, number: int) -> None:
        def swap(path: Path) -> None:
            path.rename(self.base / f"taken away {self.strangers}")
            self.strangers += 1
            path.symlink_to("nowhere")

        self._meddle(number, is_folder, swap)

    @rule(name=st.sampled_from(NAMES[:3]))
    def leave_names_out_for_a_cycle(self, name: str) -> None:
        self.shop.options["exclude"] = [name]
        told = self._cycle(self.shop.cycle)
        del self.shop.options["exclude"]
        self.touched = True

        assert (told.failed, told.result) == ({}, Result.SUCCESS)
        for path in below(self.shop.source):
            if name not in path.parts and is_file(self.shop.source / path):
                assert seen(self.shop.mirror / path)[2] == seen(self.shop.source / path)[2]


class ManyDeviceHistories(DeviceHistory):
    """The same, of which every run tries a share."""


TestDevices = pytest.mark.timeout(900)(pytest.mark.needs_root(DeviceHistory.TestCase))
TestDevices.settings = settings(History.TestCase.settings, max_examples=workers.share(15, 8, 3))
TestManyDevices = pytest.mark.slow(pytest.mark.timeout(7200)(pytest.mark.needs_root(ManyDeviceHistories.TestCase)))
TestManyDevices.settings = settings(History.TestCase.settings, max_examples=150)
