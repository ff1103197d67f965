"""A cursor over folders that resolves no path twice and follows no link."""

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from job.fs.dircursor import DirCursor, open_folder, open_root, single

FEW_DESCRIPTORS = 256
NAMES = [b"a", b"b", b"\xff"]


@contextmanager
def at_most_descriptors(most: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def filled_up() -> Iterator[None]:
    """Use up every descriptor that the limit still allows."""
    with ExitStack() as undo:
        with suppress(OSError):
            while True:
                undo.callback(os.close, os.open("/", os.O_RDONLY))
        yield


def dig(root: int, names: list[bytes]) -> list[int]:
    """Make folders one in another, however deep, and give their inodes, the topmost first."""
    inodes, current = [], os.dup(root)
    for name in names:
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=current)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
        os.close(current)
        current = below
        inodes.append(os.fstat(current).st_ino)
    os.close(current)
    return inodes


@pytest.mark.usefixtures("no_leak")
class TestTrail:
    """Moving about."""

    def test_the_empty_path_is_the_root_itself(self, folder: int) -> None:
        with closing(DirCursor(folder)) as trail:
            assert trail.goto(b"") == folder

    def test_closing_leaves_the_root_open(self, folder: int, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        trail = DirCursor(folder)
        trail.goto(b"a")

        trail.close()

        assert os.fstat(folder).st_ino == tmp_path.stat().st_ino

    def test_a_move_keeps_the_common_ancestors_open(self, folder: int, tmp_path: Path) -> None:
        for name in ("a/b/c", "a/b/d"):
            (tmp_path / name).mkdir(parents=True)
        with closing(DirCursor(folder)) as trail:
            trail.goto(b"a/b/c")
            # Were `a` opened again by name, this would be in the way.
            (tmp_path / "a").rename(tmp_path / "moved")

            there = os.fstat(trail.goto(b"a/b/d"))

        assert there.st_ino == (tmp_path / "moved/b/d").stat().st_ino

    def test_a_folder_500_deep_is_reached_and_left_with_few_descriptors(self, folder: int, tmp_path: Path) -> None:
        names = [b"%d" % number for number in range(500)]
        inodes = dig(folder, names)

        with at_most_descriptors(FEW_DESCRIPTORS), closing(DirCursor(folder)) as trail:
            deepest = os.fstat(trail.goto(b"/".join(names))).st_ino
            on_the_way_up = [os.fstat(trail.goto(b"/".join(names[:depth]))).st_ino for depth in (450, 300, 299, 1)]

        assert deepest == inodes[-1]
        assert on_the_way_up == [inodes[depth - 1] for depth in (450, 300, 299, 1)]
        shutil.rmtree(tmp_path / "0")

    @pytest.mark.parametrize("planted", ["link", "dangling", "file", "fifo"])
    def test_only_folders_are_entered(self, folder: int, tmp_path: Path, planted: str) -> None:
        (tmp_path / "real/below").mkdir(parents=True)
        match planted:
            case "link":
                (tmp_path / "way").symlink_to("real")
            case "dangling":
                (tmp_path / "way").symlink_to("nowhere")
            case "file":
                (tmp_path / "way").touch()
            case _:
                os.mkfifo(tmp_path / "way")

        with closing(DirCursor(folder)) as trail, pytest.raises(OSError, match="way") as refused:
            trail.goto(b"way/below")

        assert refused.value.errno in {errno.ENOTDIR, errno.ELOOP}

    def test_a_trail_is_usable_after_an_error(self, folder: int, tmp_path: Path) -> None:
        (tmp_path / "a/b").mkdir(parents=True)
        with closing(DirCursor(folder)) as trail:
            with pytest.raises(FileNotFoundError):
                trail.goto(b"a/missing/deeper")

            there = os.fstat(trail.goto(b"a/b"))

        assert there.st_ino == (tmp_path / "a/b").stat().st_ino

    @pytest.mark.parametrize("path", [b"..", b"a/..", b"/a", b"a//b", b"a/", b".", b"a\0"])
    def test_a_path_that_is_no_plain_way_down_is_refused(self, folder: int, tmp_path: Path, path: bytes) -> None:
        (tmp_path / "a").mkdir()

        with closing(DirCursor(folder)) as trail, pytest.raises(ValueError, match="single path component"):
            trail.goto(path)


@pytest.mark.usefixtures("no_leak")
class TestAMovedFolder:
    """What stands above a folder that somebody moved is none of ours; deep down, the way up is not held open."""

    DEEP = 100
    NEAR_TOP = b"/".join([b"d"] * 10)

    def test_the_way_up_is_not_believed_when_it_leads_elsewhere(self, folder: int, tmp_path: Path) -> None:
        dig(folder, [b"d"] * self.DEEP)
        (tmp_path / "elsewhere").mkdir()
        with closing(DirCursor(folder)) as trail:
            trail.goto(b"/".join([b"d"] * self.DEEP))
            inner = tmp_path.joinpath(*["d"] * 30)
            inner.rename(tmp_path / "elsewhere" / "d")

            there = os.fstat(trail.goto(self.NEAR_TOP))

        assert there.st_ino == tmp_path.joinpath(*["d"] * 10).stat().st_ino

    def test_a_way_that_was_cut_behind_us_is_an_error_and_the_rest_stays_reachable(
        self, folder: int, tmp_path: Path
    ) -> None:
        dig(folder, [b"d"] * self.DEEP)
        (tmp_path / "elsewhere").mkdir()
        with closing(DirCursor(folder)) as trail:
            trail.goto(b"/".join([b"d"] * self.DEEP))
            tmp_path.joinpath(*["d"] * 30).rename(tmp_path / "elsewhere" / "inner")
            tmp_path.joinpath(*["d"] * 5).rename(tmp_path / "elsewhere" / "outer")

            for _ in range(2):
                with pytest.raises(FileNotFoundError):
                    trail.goto(self.NEAR_TOP)
            there = os.fstat(trail.goto(b"elsewhere"))

        assert there.st_ino == (tmp_path / "elsewhere").stat().st_ino

    def test_a_way_up_that_could_not_be_opened_once_is_open_again_later(self, folder: int, tmp_path: Path) -> None:
        dig(folder, [b"d"] * self.DEEP)
        with closing(DirCursor(folder)) as trail:
            deepest = trail.goto(b"/".join([b"d"] * self.DEEP))
            with at_most_descriptors(deepest + 1), filled_up(), suppress(OSError):
                trail.goto(self.NEAR_TOP)

            there = os.fstat(trail.goto(self.NEAR_TOP))

        assert there.st_ino == tmp_path.joinpath(*["d"] * 10).stat().st_ino

    def test_the_way_up_out_of_a_folder_that_was_removed_starts_at_the_root(self, folder: int, tmp_path: Path) -> None:
        dig(folder, [b"d"] * self.DEEP)
        with closing(DirCursor(folder)) as trail:
            trail.goto(b"/".join([b"d"] * self.DEEP))
            shutil.rmtree(tmp_path.joinpath(*["d"] * 20))

            there = os.fstat(trail.goto(self.NEAR_TOP))
            again = os.fstat(trail.goto(self.NEAR_TOP))

        assert there.st_ino == again.st_ino == tmp_path.joinpath(*["d"] * 10).stat().st_ino


paths = st.lists(st.sampled_from(NAMES), max_size=5).map(b"/".join)


@given(st.lists(paths, min_size=1, max_size=8), st.lists(paths, max_size=20))
@settings(deadline=None, max_examples=60)
def test_wherever_a_trail_goes_it_stands_where_the_path_leads(made: list[bytes], visited: list[bytes]) -> None:
    with TemporaryDirectory() as top:
        for path in made:
            os.makedirs(os.path.join(os.fsencode(top), path), exist_ok=True)
        root = open_root(top)
        try:
            with closing(DirCursor(root)) as trail:
                for path in visited:
                    assert _inode_by_trail(trail, path) == _inode_by_path(top, path)
        finally:
            os.close(root)


def _inode_by_trail(trail: DirCursor, path: bytes) -> int | None:
    try:
        return os.fstat(trail.goto(path)).st_ino
    except FileNotFoundError:
        return None


def _inode_by_path(top: str, path: bytes) -> int | None:
    try:
        return os.stat(os.path.join(os.fsencode(top), path)).st_ino
    except FileNotFoundError:
        return None


@given(st.lists(st.integers(1, 140), min_size=1, max_size=12))
@settings(deadline=None, max_examples=15)
def test_up_and_down_a_deep_tree_beyond_what_is_held_open(depths: list[int]) -> None:
    with TemporaryDirectory() as top:
        root = open_root(top)
        try:
            inodes = dig(root, [b"d"] * 140)
            with closing(DirCursor(root)) as trail:
                seen = [os.fstat(trail.goto(b"/".join([b"d"] * depth))).st_ino for depth in depths]
        finally:
            os.close(root)

    assert seen == [inodes[depth - 1] for depth in depths]


def test_a_root_may_be_reached_over_a_link_but_nothing_below_it(tmp_path: Path) -> None:
    (tmp_path / "real/below").mkdir(parents=True)
    (tmp_path / "root").symlink_to("real")
    (tmp_path / "real/link").symlink_to("below")

    root = open_root(str(tmp_path / "root"))

    with pytest.raises(OSError):  # noqa: PT011  # ENOTDIR or ELOOP, after the kernel's taste
        open_folder(b"link", root)
    os.close(root)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0b"])
def test_only_a_single_component_passes_for_a_name(name: bytes) -> None:
    with pytest.raises(ValueError, match="single path component"):
        single(name)


@pytest.mark.parametrize("name", [b"a", b"...", b"..a", b"\xff", b"two\nlines", b" "])
def test_any_other_name_is_taken_as_it_is(name: bytes) -> None:
    assert single(name) == name
