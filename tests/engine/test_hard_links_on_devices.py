"""Hard links on several file systems: inode numbers that are equal or come again, and rows that are stale."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest

from job.core.file_systems import Capabilities
from job.core.outcome import Drift, Result
from job.events.pair import MetadataNotKept, MirrorProbed
from job.fs import probe
from tests.engine.test_hard_links import give_name, inodes
from tests.engine.test_tree_compare import compared
from tests.engine.workshop import Told, Workshop, assert_mirrored
from tests.faults.tampering import mounted, run

RARELY = 10**6
MEMFS = Path(__file__).parents[1] / "cases" / "memfs.py"
needs_root = pytest.mark.needs_root
audits = pytest.mark.parametrize("audit_interval", [0, RARELY])


def names_by_file(root: Path, names: list[str]) -> set[frozenset[str]]:
    """Tell which names share a file."""
    found: dict[tuple[int, int], set[str]] = {}
    for name in names:
        seen = (root / name).lstat()
        found.setdefault((seen.st_dev, seen.st_ino), set()).add(name)
    return {frozenset(group) for group in found.values()}


def assert_linked_as_the_source(shop: Workshop) -> None:
    names = [str(path.relative_to(shop.source)) for path in shop.source.rglob("*") if not path.is_dir()]
    assert names_by_file(shop.mirror, names) == names_by_file(shop.source, names)
    assert_mirrored(shop)


def assert_idle(told: Told) -> None:
    """See that a cycle had nothing to do."""
    assert told.result is Result.SUCCESS
    assert (told.copied, told.tally.updated, told.tally.failed, told.drift) == ({}, 0, 0, {})


# Two devices in a source ----------------------------------------------------------------------------------------------


@pytest.fixture
def disks(shop: Workshop) -> Iterator[Workshop]:
    """A source with two file systems in it, each with a file of two names, whose inode numbers are equal."""
    shop.options["cross_mounts"] = True
    shop.write("kept")
    with ExitStack() as tidy:
        for name in ("one", "two"):
            at = tidy.enter_context(mounted("tmpfs", shop.source / name, "-t", "tmpfs", "-o", "size=1m"))
            (at / "a").write_text(f"content of {name}")
            (at / "deeper").mkdir()
            os.link(at / "a", at / "deeper/b")
        assert inodes(shop.source, "one/a") == inodes(shop.source, "two/a")
        yield shop


@needs_root
def test_files_with_one_inode_number_on_two_devices_are_two(disks: Workshop) -> None:
    told = disks.cycle()

    assert (told.result, told.tally.copied) == (Result.SUCCESS, 5)
    assert_linked_as_the_source(disks)
    for _ in range(2):
        assert_idle(disks.cycle())


@needs_root
def test_a_plan_tells_them_apart_and_so_does_a_comparison(disks: Workshop) -> None:
    planned = {step.path: step.action for step in disks.plan() if step.action in {"copy", "link"}}

    assert planned[b"one/a"] == planned[b"two/a"] == "copy"
    assert planned[b"one/deeper/b"] == planned[b"two/deeper/b"] == "link"
    disks.cycle()
    assert compared(disks) == []
    (disks.mirror / "two/a").unlink()
    os.link(disks.mirror / "one/a", disks.mirror / "two/a")
    assert {(each.path, each.what) for each in compared(disks)} >= {(b"two/a", "links"), (b"two/a", "content")}


@needs_root
@audits
@pytest.mark.parametrize("name", ["one/a", "two/a", "one/deeper/b", "two/deeper/b"])
def test_a_name_that_the_mirror_lost_is_linked_to_the_one_on_its_own_device(
    disks: Workshop, name: str, audit_interval: int
) -> None:
    disks.cycle()
    disks.options["audit_interval"] = audit_interval
    (disks.mirror / name).unlink()

    told = disks.cycle()

    assert (list(told.copied), told.tally.bytes_copied, told.drift) == ([name.encode()], 0, {Drift.MISSING: 1})
    assert_linked_as_the_source(disks)
    disks.options["audit_interval"] = 0
    assert_idle(disks.cycle())


@needs_root
def test_no_name_ever_has_the_content_of_another_device_while_one_file_never_stands_still(
    disks: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be copied keeps its old content, and is not linked to what another device has under the number."""
    disks.options["workers"] = 1
    disks.cycle()
    for name in ("one", "two"):
        (disks.source / name / "a").write_text(f"{name} changed")
    real, ticks = os.fstat, count()

    def restless(descriptor: int) -> os.stat_result:
        seen = real(descriptor)
        if (seen.st_dev, seen.st_ino) == restless_file:
            os.utime(disks.source / "two/a", ns=(0, next(ticks)))
        return seen

    found = (disks.source / "two/a").stat()
    restless_file = found.st_dev, found.st_ino
    with monkeypatch.context() as patch:
        patch.setattr("os.fstat", restless)
        told = disks.cycle()

    assert told.failed.keys() == {b"two/a", b"two/deeper/b"}
    assert (disks.mirror / "one/a").read_text() == (disks.mirror / "one/deeper/b").read_text() == "one changed"
    assert (disks.mirror / "two/a").read_text() == (disks.mirror / "two/deeper/b").read_text() == "content of two"


# An overlay, whose files have the device of their layer ---------------------------------------------------------------


@pytest.fixture
def overlay(shop: Workshop) -> Iterator[Workshop]:
    """A source that is an overlay, with default settings, whose layers lie on three file systems."""
    layers = {name: shop.base / "layers" / name for name in ("upper", "one", "two")}
    with ExitStack() as tidy:
        for name, at in layers.items():
            tidy.enter_context(mounted("tmpfs", at, "-t", "tmpfs", "-o", "size=1m"))
            for folder in ("root/folder", "work"):
                (at / folder).mkdir(parents=True)
            if name != "upper":
                names = [at / "root/folder" / f"{name} {each}" for each in "abc"]
                names[0].write_text(f"content of {name}")
                for each in names[1:]:
                    os.link(names[0], each)
                (at / "root/folder" / f"alone on {name}").write_text(name)
        lower = f"lowerdir={layers['one']}/root:{layers['two']}/root"
        options = f"{lower},upperdir={layers['upper']}/root,workdir={layers['upper']}/work"
        tidy.enter_context(mounted("overlay", shop.source, "-t", "overlay", "-o", options))
        assert inodes(shop.source, "folder/one a") == inodes(shop.source, "folder/two a")
        yield shop


@needs_root
def test_layers_of_an_overlay_on_different_disks_are_different_devices(overlay: Workshop) -> None:
    told = overlay.cycle()

    assert (told.result, told.tally.copied) == (Result.SUCCESS, 8)
    assert_linked_as_the_source(overlay)
    assert_idle(overlay.cycle())


def write(path: Path) -> None:
    path.write_text("changed")


def chmod(path: Path) -> None:
    path.chmod(0o600)


@needs_root
@pytest.mark.parametrize("change", [write, chmod, Path.touch])
def test_a_name_that_an_overlay_parts_from_the_others_by_a_write_is_parted_in_the_mirror(
    overlay: Workshop, change: Callable[[Path], object]
) -> None:
    overlay.cycle()
    change(overlay.source / "folder/one b")

    told = overlay.cycle()

    assert told.result is Result.SUCCESS
    assert_linked_as_the_source(overlay)
    assert_idle(overlay.cycle())


# Rows that are hints --------------------------------------------------------------------------------------------------


@pytest.fixture
def trio(shop: Workshop) -> Workshop:
    """A file with three names, one of them alone in a folder of its own below another one."""
    shop.write("x", "one")
    give_name(shop, "x", "y")
    give_name(shop, "x", "above/a/h")
    assert shop.cycle().tally.copied == 3
    return shop


def file_in_its_place(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file now")


def link_in_its_place(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to("y")


def other_file_in_it(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "h").write_text("another file")


@pytest.mark.parametrize("change", [shutil.rmtree, file_in_its_place, link_in_its_place, other_file_in_it])
@pytest.mark.parametrize("which", ["above", "above/a"])
@pytest.mark.parametrize("meddle", [None, shutil.rmtree, link_in_its_place, file_in_its_place])
@audits
def test_a_folder_that_held_one_of_the_names_is_no_reason_to_fail(
    trio: Workshop,
    change: Callable[[Path], None],
    which: str,
    meddle: Callable[[Path], None] | None,
    audit_interval: int,
) -> None:
    trio.options["audit_interval"] = audit_interval
    change(trio.source / which)
    if meddle is not None:
        meddle(trio.mirror / "above/a")

    for _ in range(2):
        told = trio.cycle()
        assert (told.failed, told.result) == ({}, Result.SUCCESS)
        assert_linked_as_the_source(trio)
        os.utime(trio.source / "x")  # so that the other names are looked up
    trio.cycle()
    assert_idle(trio.cycle())


@audits
@pytest.mark.parametrize("patterns", ["above/", "a/", "h", "above/a/h", "above/**", "above/ !above/a/h", "a/ !*/a/h"])
def test_names_that_are_left_out_in_the_same_step_are_left_alone(
    trio: Workshop, patterns: str, audit_interval: int
) -> None:
    trio.options |= {"exclude": patterns.split(), "audit_interval": audit_interval}
    (trio.source / "x").write_text("changed")

    told = trio.cycle()

    assert (told.failed, set(told.copied)) == ({}, {b"x", b"y"})
    assert (trio.mirror / "above/a/h").read_text() == "one"
    assert len(inodes(trio.mirror, "x", "y")) == 1
    assert_idle(trio.cycle())


@needs_root
@audits
@pytest.mark.parametrize("cross_mounts", [False, True])
def test_a_name_that_something_is_mounted_over_is_left_alone(
    trio: Workshop, audit_interval: int, *, cross_mounts: bool
) -> None:
    trio.options |= {"cross_mounts": cross_mounts, "audit_interval": audit_interval}
    with mounted("tmpfs", trio.source / "above/a", "-t", "tmpfs", "-o", "size=1m"):
        (trio.source / "above/a/other").write_text("another")
        os.link(trio.source / "above/a/other", trio.source / "above/a/name")
        (trio.source / "x").write_text("changed")

        told = trio.cycle()

        assert told.failed == {}
        assert (trio.mirror / "above/a/h").read_text() == "one"
        assert len(inodes(trio.mirror, "x", "y")) == 1
        assert_idle(trio.cycle())
    assert trio.cycle().result is Result.SUCCESS
    assert_linked_as_the_source(trio)


@audits
def test_a_mirror_folder_that_a_stranger_took_away_is_made_again_with_the_name_in_it(
    trio: Workshop, audit_interval: int
) -> None:
    trio.options["audit_interval"] = audit_interval
    os.utime(trio.source / "x")
    shutil.rmtree(trio.mirror / "above/a")
    (trio.mirror / "above/a").symlink_to("/")

    told = trio.cycle()

    assert (told.failed, told.result) == ({}, Result.SUCCESS)
    assert_linked_as_the_source(trio)
    trio.options["audit_interval"] = 0
    assert_idle(trio.cycle())


@needs_root
def test_a_number_that_is_used_again_joins_no_file_to_the_names_of_the_one_before(shop: Workshop) -> None:
    """A new disk in the place of the old one counts its inodes from the beginning."""
    shop.options |= {"cross_mounts": True, "audit_interval": RARELY}
    shop.write("kept")
    at = shop.source / "disk"
    for content, names in (("first", ("a", "b", "c")), ("second", ("b", "d", "e")), ("third", ("x", "a", "d"))):
        with mounted("tmpfs", at, "-t", "tmpfs", "-o", "size=1m"):
            (at / names[0]).write_text(content)
            for name in names[1:]:
                os.link(at / names[0], at / name)

            told = shop.cycle()

            assert (told.failed, told.result) == ({}, Result.SUCCESS)
            assert_linked_as_the_source(shop)
            assert_idle(shop.cycle())


@needs_root
def test_devices_that_get_other_numbers_cost_nothing_and_their_names_are_still_known(shop: Workshop) -> None:
    shop.options |= {"cross_mounts": True, "audit_interval": RARELY}
    shop.write("kept")
    backs = [shop.base / name for name in ("back 1", "back 2")]
    with ExitStack() as tidy:
        for at in backs:
            tidy.enter_context(mounted("tmpfs", at, "-t", "tmpfs", "-o", "size=1m"))
            for folder in ("lower", "upper", "work"):
                (at / folder).mkdir()
        with both_mounted(shop, backs):
            for at in (shop.source / "1", shop.source / "2"):
                (at / "a").write_text(f"content of {at.name}")
                (at / "deeper").mkdir()
                os.link(at / "a", at / "deeper/b")
            devices = [(shop.source / name).stat().st_dev for name in ("1", "2")]
            shop.cycle()
        with both_mounted(shop, backs[::-1]):
            assert [(shop.source / name).stat().st_dev for name in ("1", "2")] != devices
            assert_idle(shop.cycle())
            (shop.mirror / "2/a").unlink()

            assert shop.cycle().tally.bytes_copied == 0

            assert_linked_as_the_source(shop)


@contextmanager
def both_mounted(shop: Workshop, backs: list[Path]) -> Iterator[None]:
    """Mount overlays, which have the inode numbers of what is below them, and a device number of the moment."""
    with ExitStack() as tidy:
        for back in backs:
            options = f"lowerdir={back}/lower,upperdir={back}/upper,workdir={back}/work"
            tidy.enter_context(mounted("overlay", shop.source / back.name[-1], "-t", "overlay", "-o", options))
        yield


# Mirrors --------------------------------------------------------------------------------------------------------------


@needs_root
def test_names_on_two_file_systems_of_a_mirror_are_linked_on_each_and_that_is_told_once(shop: Workshop) -> None:
    shop.write("a")
    for name in ("b", "disk/c", "disk/d", "disk/deeper/e"):
        give_name(shop, "a", name)
    with mounted("tmpfs", shop.mirror / "disk", "-t", "tmpfs"):
        told = shop.cycle()

        assert (told.result, told.tally.copied) == (Result.SUCCESS, 5)
        assert [event.what for event in told.of(MetadataNotKept)] == ["hard_links"]
        names = ["a", "b", "disk/c", "disk/d", "disk/deeper/e"]
        assert names_by_file(shop.mirror, names) == {frozenset(names[:2]), frozenset(names[2:])}
        assert_mirrored(shop)
        assert compared(shop) == []
        assert_idle(shop.cycle())
        (shop.source / "a").write_text("changed")
        assert shop.cycle().tally.copied == 5
        assert_mirrored(shop)
        assert_idle(shop.cycle())


@contextmanager
def memfs(at: Path, *nature: str) -> Iterator[Path]:
    run(sys.executable, str(MEMFS), str(at), *nature)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


@needs_root
def test_a_file_with_more_names_than_the_mirror_allows_becomes_as_few_as_can_be(shop: Workshop) -> None:
    names = [f"n{number}" for number in range(12)]
    shop.write(names[0])
    for name in names[1:]:
        give_name(shop, names[0], name)
    with memfs(shop.mirror, "few"):
        told = shop.cycle()

        assert (told.result, told.tally.copied) == (Result.SUCCESS, 12)
        assert [event.what for event in told.of(MetadataNotKept)] == ["hard_links"]
        assert len(inodes(shop.mirror, *names)) == 3
        assert_mirrored(shop)
        assert_idle(shop.cycle())
        (shop.source / "n3").write_text("changed")
        assert shop.cycle().result is Result.SUCCESS
        assert_mirrored(shop)
        assert_idle(shop.cycle())


@pytest.fixture(params=["probed", "met"])
def look_alike(shop: Workshop, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    """A mirror where a hard link works, but looks like a file of its own: found out beforehand, or all of a sudden."""
    if request.param == "met":
        monkeypatch.setattr(probe, "probe", lambda _: Capabilities(syncfs=False))
    shop.write("a")
    for name in ("b", "folder/c"):
        give_name(shop, "a", name)
    with memfs(shop.mirror, "sshlink"):
        yield shop


@needs_root
def test_a_link_that_looks_like_a_file_of_its_own_is_copied_as_one_and_that_is_told_once(look_alike: Workshop) -> None:
    told = look_alike.cycle()

    assert (told.result, told.tally.copied) == (Result.SUCCESS, 3)
    assert [event.what for event in told.of(MetadataNotKept)] == ["hard_links"]
    assert_mirrored(look_alike)
    for _ in range(2):
        assert_idle(look_alike.cycle())
    look_alike.write("folder/new", "content")
    assert look_alike.cycle().copied.keys() == {b"folder/new"}
    (look_alike.source / "a").write_text("changed")
    assert look_alike.cycle().tally.copied == 3
    assert_mirrored(look_alike)
    assert_idle(look_alike.cycle())
    assert look_alike.temps == []


@needs_root
def test_the_probe_names_hard_links_that_look_like_files_of_their_own(shop: Workshop) -> None:
    shop.write("a")
    with memfs(shop.mirror, "sshlink"):
        [probed] = shop.cycle().of(MirrorProbed)

    assert "hard links" in probed.lacks
