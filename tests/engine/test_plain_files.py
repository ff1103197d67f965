"""Plain files are copied in one loop, all others by the general path: both leave the same mirror, index and report."""

import errno
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job.core.entry import Entry
from job.core.outcome import Failure, Result
from job.core.record import Record
from job.engine.copy import folder
from job.events.pair import FileCopied
from job.fs.listing import Listing
from job.fs.scanners import SourceScanner
from job.fs.small_copies import SMALL_BYTES, PlainCopier
from job.store.codec import decode_records
from tests.engine.interference import interfered
from tests.engine.workshop import Told, Workshop, assert_mirrored, changed

FAST = Path("/dev/shm")
ANCIENT_NS = 10**18
GENERAL = {"verify_copies": "readback"}
"""Every copy is read back, which the loop does not do."""


class File(NamedTuple):
    """A file of a generated tree."""

    size: int
    mode: int
    mtime_ns: int
    form: str

    def make(self, at: Path, first: Path) -> None:
        """Make it, or another thing that has its place."""
        if self.form in {"link", "fifo"}:
            at.symlink_to("elsewhere") if self.form == "link" else os.mkfifo(at)
            os.utime(at, ns=(ANCIENT_NS, self.mtime_ns), follow_symlinks=False)
        elif self.form == "name" and first.is_file() and not first.is_symlink():
            at.hardlink_to(first)
        else:
            at.write_bytes(bytes(self.size) if self.form == "zeros" else (at.name.encode() * self.size)[: self.size])
            if self.form == "sparse":
                os.truncate(at, self.size + (1 << 16))
            if self.form == "attribute":
                os.setxattr(at, "user.mark", b"1")
            at.chmod(self.mode)
            os.utime(at, ns=(ANCIENT_NS, self.mtime_ns))


files = st.builds(
    File,
    st.sampled_from([0, 1, 77, 4096, SMALL_BYTES, SMALL_BYTES + 1]),
    st.sampled_from([0o644, 0o644, 0o600, 0o777, 0o400, 0o4755, 0o2755]),
    st.sampled_from([ANCIENT_NS, ANCIENT_NS + 1, 4 * 10**18]),
    st.sampled_from(["plain", "plain", "plain", "zeros", "link", "fifo", "name", "sparse", "attribute"]),
)
folders = st.dictionaries(st.sampled_from(["a", "b", "c", "ü", "d d", ".truecopy-tmp-1"]), files, max_size=5)
trees = st.dictionaries(st.sampled_from(["", "one", "one/two", "three"]), folders, min_size=1)
Tree = Mapping[str, Mapping[str, File]]


def plant(root: Path, tree: Tree) -> None:
    """Make a tree; what has a name already is replaced."""
    for path, entries in tree.items():
        folder = root / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in entries.items():
            (folder / name).unlink(missing_ok=True)
            file.make(folder / name, folder / "a")


def index_of(shop: Workshop) -> dict[tuple[bytes, int], list[object]]:
    """Return the records by folder, without what no two mirrors have in common."""

    def comparable(record: Record) -> object:
        both = (record.source, record.mirror)
        return record.checksum, record.racy, [each._replace(inode=0, ctime_ns=0) for each in both]

    with closing(sqlite3.connect(shop.state / "index.sqlite3")) as index:
        rows = index.execute("SELECT folder, part, rows FROM records").fetchall()
    return {
        (folder, part): [comparable(each) for _, each in sorted(decode_records(text).items())]
        for folder, part, text in rows
    }


def report_of(told: Told) -> list[tuple[object, ...]]:
    """Return every event about an entry, without its duration."""
    found = [
        (type(event).__name__, *(vars(event)[name] for name in event.fields if name != "duration_seconds"))
        for event in told.events
        if "path" in event.fields
    ]
    return sorted(found, key=repr)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=trees, after=trees, compare=st.sampled_from(["auto", "checksum"]))
def test_any_history_leaves_the_same_mirror_index_and_report_by_both_ways(
    before: Tree, after: Tree, compare: str
) -> None:
    with tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None) as base:
        shops = []
        # Only a cycle without an audit believes what is recorded of folders.
        for name, options in (("loop", {"audit_interval": 3600}), ("general", GENERAL)):
            (Path(base) / name).mkdir()
            shops.append(
                Workshop(Path(base) / name, {"compare": compare, "allow_empty": True, "keep_setuid": True, **options})
            )
        for tree in (before, after, {}):
            loop, general = _cycle(shops[0], tree), _by_the_general_path(shops[1], tree)

            assert loop.result == general.result
            assert loop.tally == general.tally
            assert report_of(loop) == report_of(general)
            assert index_of(shops[0]) == index_of(shops[1])
            if loop.result is Result.SUCCESS:
                assert_mirrored(shops[0])


def _cycle(shop: Workshop, tree: Tree) -> Told:
    plant(shop.source, tree)
    return shop.cycle()


def _by_the_general_path(shop: Workshop, tree: Tree) -> Told:
    """Run a cycle that also lists every folder again, as it does in a large tree."""
    with mock.patch("job.engine.scan.MOST_PACKED_BYTES", 0):
        return _cycle(shop, tree)


@pytest.fixture
def in_the_loop(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Give the names that the loop copied."""
    names: list[bytes] = []
    copy = PlainCopier.copy

    def listened(*args: object, **options: object) -> object:
        done, left = copy(*args, **options)  # type: ignore[arg-type]  # passed on as they are
        names.extend(each.source.name for each in done)
        return done, left

    monkeypatch.setattr(PlainCopier, "copy", listened)
    return names


@pytest.mark.one_process
def test_the_loop_copies_plain_files_and_no_others(shop: Workshop, in_the_loop: list[bytes]) -> None:
    shop.write("plain", "content")
    shop.write("empty", "")
    shop.write("large", "x" * (SMALL_BYTES + 1))
    shop.write("first", "one content")
    (shop.source / "second").hardlink_to(shop.source / "first")
    shop.write("set-id", "content")
    (shop.source / "set-id").chmod(0o2755)
    (shop.source / "link").symlink_to("plain")
    shop.options = {"keep_setuid": True}

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert sorted(in_the_loop) == [b"empty", b"plain"]
    assert_mirrored(shop)


@pytest.mark.one_process
@pytest.mark.needs_root
def test_labels_that_are_not_copied_leave_a_file_plain(shop: Workshop, in_the_loop: list[bytes]) -> None:
    os.setxattr(shop.write("labelled", "content"), "security.selinux", b"a label of this host")
    os.setxattr(shop.write("marked", "content"), "user.mark", b"1")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert in_the_loop == [b"labelled"]
    assert os.getxattr(shop.mirror / "marked", "user.mark") == b"1"


@pytest.mark.one_process
def test_a_copy_never_has_a_wider_mode_than_its_file_at_any_moment(shop: Workshop, in_the_loop: list[bytes]) -> None:
    shop.write("secret", "content")
    (shop.source / "secret").chmod(0o600)
    shop.write("read only", "content")
    (shop.source / "read only").chmod(0o440)

    shop.cycle()

    assert sorted(in_the_loop) == [b"read only", b"secret"]
    modes = [stat.S_IMODE((shop.mirror / name).stat().st_mode) for name in ("secret", "read only")]
    assert modes == [0o600, 0o440]


@pytest.mark.one_process
def test_only_the_owner_may_write_to_a_file_until_it_is_complete(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write("of all", "words of all")
    (shop.source / "of all").chmod(0o666)
    modes: list[int] = []
    write = os.write

    def listened(descriptor: int, data: bytes) -> int:
        if data == b"words of all":
            modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", listened)
    usual = os.umask(0)
    try:
        shop.cycle()
    finally:
        os.umask(usual)

    assert modes == [0o644]
    assert_mirrored(shop)


@pytest.mark.one_process
def test_a_file_of_which_a_full_disk_takes_a_part_is_tried_again(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write("file", "content")
    tried: list[bytes] = []
    write = os.write

    def short(descriptor: int, data: bytes) -> int:
        tried.append(data)
        return write(descriptor, data[:3] if data == b"content" and tried.count(data) == 1 else data)

    monkeypatch.setattr(os, "write", short)

    told = shop.cycle()

    assert (told.result, tried.count(b"content")) == (Result.SUCCESS, 2)
    assert_mirrored(shop)


@pytest.mark.one_process
@pytest.mark.parametrize("attributes", [{}, {"user.mark": b"1"}])
def test_a_stop_is_noticed_between_two_slow_files(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, attributes: dict[str, bytes]
) -> None:
    for name in "abcdefgh":
        file = shop.write(name, "content")
        for attribute, value in attributes.items():
            os.setxattr(file, attribute, value)
    ticks, tried, copy = count(shop.now_ns(), 10**9), list[Entry](), PlainCopier.copy
    monkeypatch.setattr(Workshop, "now_ns", lambda _: next(ticks))

    def listened(*args: object, **options: object) -> object:
        done, left = copy(*args, **options)  # type: ignore[arg-type]  # passed on as they are
        tried.extend([each.source for each in done] + [entry for entry, _ in left])
        return done, left

    monkeypatch.setattr(PlainCopier, "copy", listened)

    told = shop.cycle(stop=lambda: bool(tried))

    assert told.result is Result.STOPPED
    assert [each.name for each in tried] == [b"a"]
    assert not shop.temps


@pytest.mark.one_process
@pytest.mark.parametrize("unusual", [[], ["link"]], ids=["staged", "temps"])
def test_files_of_a_loop_that_was_left_by_an_exception_do_not_stay(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, unusual: list[str]
) -> None:
    for name in "abc":
        shop.write(f"folder/{name}", "content")
    for name in unusual:  # then the folder is not staged
        (shop.source / "folder" / name).symlink_to("a")
    shop.write("other", "content")
    utime, calls = os.utime, count(1)

    def interrupted(*args: Any, **options: Any) -> None:
        inside = ("/folder/", "/.truecopy-tmp-")
        path = os.readlink(f"/proc/self/fd/{args[0]}") if isinstance(args[0], int) else ""
        if any(each in path for each in inside) and path[-2:] in {"/a", "/b", "/c"} | {"-2", "-3"} and next(calls) == 2:
            raise KeyboardInterrupt
        utime(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", interrupted)
        with pytest.raises(KeyboardInterrupt):
            shop.cycle()
    shutil.rmtree(shop.source / "folder")

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert not shop.temps


@pytest.mark.one_process
@pytest.mark.parametrize("options", [{}, GENERAL])
def test_a_file_that_failed_with_its_other_names_is_not_tried_again_when_it_has_lost_them(
    shop: Workshop, options: dict[str, object]
) -> None:
    shop.options = options
    first = shop.write("first", "content")
    second = shop.source / "second"
    second.hardlink_to(first)

    def fail_once(_: Path) -> None:
        if second.exists():
            second.unlink()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    told = shop.cycle(interfered(before_copy=fail_once))

    assert told.failed == {b"first": Failure.IO_ERROR}
    assert not told.copied


@pytest.mark.one_process
def test_a_small_sparse_file_is_read_by_the_loop_which_sees_its_holes_and_once_again(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    sparse = shop.write("sparse", "content")
    os.truncate(sparse, 100_000)
    reads: list[int] = []
    read = os.read

    def listened(descriptor: int, count: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(sparse):
            reads.append(count)
        return read(descriptor, count)

    monkeypatch.setattr(os, "read", listened)

    shop.cycle()

    assert len(reads) == 2
    assert_mirrored(shop)


@pytest.mark.one_process
@pytest.mark.parametrize(("error", "in_loop"), [(errno.ENOTSUP, [b"plain"]), (errno.EIO, [])])
def test_files_of_a_source_without_attributes_are_plain(
    shop: Workshop, in_the_loop: list[bytes], monkeypatch: pytest.MonkeyPatch, error: int, in_loop: list[bytes]
) -> None:
    plain = shop.write("plain", "content")
    listxattr = os.listxattr

    def refused(*args: Any, **options: Any) -> list[str]:
        if isinstance(args[0], int) and os.readlink(f"/proc/self/fd/{args[0]}") == str(plain):
            raise OSError(error, os.strerror(error))
        return listxattr(*args, **options)

    monkeypatch.setattr(os, "listxattr", refused)

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert in_the_loop == in_loop
    assert_mirrored(shop)


class Adding(SourceScanner):
    """The real source; a file is added to a folder after its scan."""

    def __init__(self, real: SourceScanner, added: Path) -> None:
        self.__dict__ = real.__dict__
        self.added = added

    def as_scanned(self, path: bytes, folder: int, packed: bytes, fingerprint: bytes) -> Listing | None:
        self.added.write_text("added")
        return super().as_scanned(path, folder, packed, fingerprint)


@pytest.mark.one_process
def test_a_folder_that_changed_since_its_scan_is_listed_again(shop: Workshop) -> None:
    shop.write("sub/file", "content")
    added = shop.source / "sub" / "added"

    told = shop.cycle(changed(lambda context: replace(context, source=Adding(context.source, added))))

    assert told.result is Result.SUCCESS
    assert {b"sub/added", b"sub/file"} <= set(told.copied)


@pytest.mark.one_process
def test_compare_checksum_lists_no_folder_again_whose_contents_are_as_recorded_and_writes_nothing(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "sub/b"):
        shop.write(name, name)
    (shop.source / "link").symlink_to("a")
    shop.options = {"compare": "checksum", "audit_interval": 3600}
    shop.cycle()
    listed: list[bytes] = []
    monkeypatch.setattr(SourceScanner, "list", lambda _, path: listed.append(path))
    monkeypatch.setattr(folder, "sweep_folder", listed.append)  # lists a mirror folder
    index = {path.name: path.read_bytes() for path in shop.state.glob("index*")}

    told = shop.cycle()

    assert (told.result, told.tally.skipped, told.tally.folders, listed) == (Result.SUCCESS, 3, 2, [])
    assert {path.name: path.read_bytes() for path in shop.state.glob("index*")} == index


@pytest.mark.one_process
def test_the_loop_copies_changed_plain_files_over_recorded_copies_and_no_others(
    shop: Workshop, in_the_loop: list[bytes]
) -> None:
    for name in ("edited", "grown", "touched", "kept", "drifted", "opened up", "closed"):
        shop.write(name, name)
        (shop.source / name).chmod(0o644)
    shop.cycle()
    in_the_loop.clear()
    (shop.source / "edited").write_text("EDITED")
    (shop.source / "grown").write_text("longer than before")
    (shop.source / "touched").chmod(0o600)  # its content is compared
    (shop.source / "drifted").write_text("of the source, changed")
    (shop.mirror / "drifted").write_text("of the mirror, changed")
    (shop.source / "closed").write_text("for its owner only")
    (shop.source / "closed").chmod(0o600)  # the old copy has to be narrowed first

    told = shop.cycle()

    assert told.result is Result.SUCCESS
    assert sorted(in_the_loop) == [b"edited", b"grown"]
    assert {event.path: event.reason for event in told.of(FileCopied)} == {
        b"closed": "size changed",
        b"drifted": "the mirror is not as it was left",
        b"edited": "modified",
        b"grown": "size changed",
    }
    assert_mirrored(shop)


@pytest.mark.parametrize("compare", ["auto", "checksum"])
def test_comparing_by_checksum_finds_times_of_a_symlink_that_were_changed_in_the_mirror(
    shop: Workshop, compare: str
) -> None:
    shop.options = {"compare": compare, "audit_interval": 3600}
    shop.write("sub/file")
    (shop.source / "sub/link").symlink_to("file")
    shop.cycle()
    os.utime(shop.mirror / "sub/link", (1, 1), follow_symlinks=False)

    assert shop.cycle().tally.updated == (compare == "checksum")
    assert shop.cycle().tally.updated == 0
