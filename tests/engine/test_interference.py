"""A mirror that somebody else changes while a cycle works on it: it is never taken for the state to keep."""

import os
from collections.abc import Callable

import pytest

from job.core.outcome import Drift, Failure, Result
from job.engine.copy import batch
from job.events.pair import DriftFound, FileCopied
from tests.engine.interference import Moment, at, edit, edit_in_secret, interfered, remove, rewrite
from tests.engine.workshop import Workshop, assert_mirrored

MEDDLING: dict[Moment, Drift] = {
    remove: Drift.MISSING,
    rewrite: Drift.REPLACED,
    edit: Drift.CONTENT,
    edit_in_secret: Drift.CONTENT,
}


MOVES = [remove, rewrite]
"""What the folder itself shows; the rest is for an audit to find, as everywhere else."""


@pytest.mark.parametrize(
    ("meddle", "audit_interval"),
    [*[(meddle, 0) for meddle in MEDDLING], *[(meddle, "1h") for meddle in MOVES]],
)
def test_a_mirror_file_changed_while_its_folder_is_worked_on_is_healed_by_the_next_cycle(
    shop: Workshop, meddle: Moment, audit_interval: object
) -> None:
    shop.options["audit_interval"] = audit_interval
    shop.write("sub/kept")
    shop.cycle()
    new = shop.write("sub/new")
    during = shop.cycle(interfered(before_copy=at(new, meddle, shop.mirror / "sub/kept")))

    told = shop.cycle()

    assert set(during.copied) == {b"sub/new"}
    assert [(event.path, event.kind) for event in told.of(DriftFound)] == [(b"sub/kept", MEDDLING[meddle])]
    assert_mirrored(shop)
    assert shop.cycle().drift == {}


@pytest.mark.parametrize("meddle", MEDDLING)
def test_what_is_changed_while_its_folder_is_worked_on_is_never_taken_for_what_was_left(
    shop: Workshop, meddle: Moment
) -> None:
    shop.options["audit_interval"] = "1h"
    shop.write("sub/kept")
    shop.cycle()
    new = shop.write("sub/new")
    shop.cycle(interfered(before_copy=at(new, meddle, shop.mirror / "sub/kept")))
    shop.write("sub/newer")
    between = shop.cycle()
    shop.options["audit_interval"] = 0

    audited = shop.cycle()

    assert [event.kind for told in (between, audited) for event in told.of(DriftFound)] == [MEDDLING[meddle]]
    assert_mirrored(shop)


@pytest.mark.parametrize("meddle", MEDDLING)
def test_a_file_changed_between_its_rename_and_the_end_of_its_folder_is_healed_by_the_next_cycle(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, meddle: Moment
) -> None:
    monkeypatch.setattr(batch, "MOST_FILES", 1)
    shop.write("a", "copied first")
    last = shop.write("b", "copied last")
    during = shop.cycle(interfered(before_copy=at(last, meddle, shop.mirror / "a")))

    told = shop.cycle()

    assert set(during.copied) == {b"a", b"b"}
    assert set(told.copied) == {b"a"}
    assert_mirrored(shop)


@pytest.mark.parametrize("meddle", [edit, edit_in_secret])
def test_an_edit_after_the_contents_were_compared_is_not_covered_up_by_mending_the_times(
    shop: Workshop, meddle: Moment
) -> None:
    path = shop.write("file")
    shop.cycle()
    (shop.state / "index.sqlite3").unlink()
    (shop.mirror / "file").chmod(0o600)
    mirrored = shop.mirror / "file"

    told = shop.cycle(interfered(after_checksum=at(mirrored, meddle, mirrored)))

    assert told.copied == {b"file": "its metadata cannot be mended in place"}
    assert path.read_text() == mirrored.read_text()
    assert_mirrored(shop)


def test_an_edit_after_the_source_alone_was_compared_is_not_covered_up_either(shop: Workshop) -> None:
    path = shop.write("file")
    shop.cycle()
    path.chmod(0o600)

    told = shop.cycle(interfered(after_checksum=at(path, edit, shop.mirror / "file")))

    assert set(told.copied) == {b"file"}
    assert_mirrored(shop)


# Names that are one in the mirror -------------------------------------------------------------------------------------


def folding(real: Callable[..., None]) -> Callable[..., None]:
    """Rename as a file system does for which `File` and `file` are one name, and the first spelling stays."""

    def rename(old: bytes, new: bytes, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        present = {os.fsencode(name) for name in os.listdir(dst_dir_fd)} - {old}
        spelt = next((name for name in present if name.lower() == new.lower()), new)
        real(old, spelt, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    return rename


def test_names_that_the_mirror_takes_for_one_are_failures_in_every_cycle(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No kernel that tests run on can be counted on to mount a file system that folds names: its rename is played.
    monkeypatch.setattr(os, "rename", folding(os.rename))
    shop.write("File", "a content")
    shop.write("file", "another one")
    shop.write("other")

    first, second = shop.cycle(), shop.cycle()

    assert set(first.copied) == {b"other"}
    assert first.failed == second.failed == {b"File": Failure.TYPE_CONFLICT, b"file": Failure.TYPE_CONFLICT}
    assert first.result is second.result is Result.PARTIAL
    assert first.committed == first.tally
    assert first.tally.copied == len(first.of(FileCopied)) == 1
    assert first.tally.entries == second.tally.entries == 3


def test_names_of_one_content_that_the_mirror_takes_for_one_are_not_all_a_success(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "rename", folding(os.rename))
    for name in ("File", "file"):
        shop.write(name, "the same")

    results = [shop.cycle().result for _ in range(3)]

    assert results == [Result.PARTIAL] * 3
