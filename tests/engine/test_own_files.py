"""What Truecopy, or `mkfs`, made in a source or a mirror: left out, named once, and no content."""

import os
import shutil
from pathlib import Path

import pytest

from job.core.outcome import Failure, Refusal, Result
from job.events.pair import OwnFilesSkipped, PairRefused
from tests.engine.test_tree_compare import told
from tests.engine.workshop import NOBODY, Workshop, as_nobody


@pytest.fixture
def restored(shop: Workshop) -> Workshop:
    """A source that was lost and brought back by `cp -a` from its mirror."""
    shop.write("file")
    shop.write("sub/other")
    shop.cycle()
    shutil.rmtree(shop.source)
    shutil.copytree(shop.mirror, shop.source, symlinks=True)
    return shop


def test_a_restored_source_is_backed_up_as_before(restored: Workshop) -> None:
    first, second = restored.cycle(), restored.cycle()

    assert first.result is second.result is Result.SUCCESS
    assert [each.path for each in first.of(OwnFilesSkipped)] == [b".truecopy"]
    assert second.of(OwnFilesSkipped) == []
    assert told(restored) == {b".truecopy": "left_out"}


def test_a_left_temp_is_left_out_and_what_only_looks_like_one_fails(restored: Workshop) -> None:
    restored.write("sub/.truecopy-tmp-0123abcd-9", "half a cont")
    restored.write("sub/.truecopy-tmp-mine", "somebody's")

    found = restored.cycle()

    assert found.failed == {b"sub/.truecopy-tmp-mine": Failure.RESERVED_NAME}
    assert b"sub/.truecopy-tmp-0123abcd-9" in [each.path for each in found.of(OwnFilesSkipped)]
    assert "sub/.truecopy-tmp-0123abcd-9" not in restored.names()


def test_a_mirror_of_mirrors_leaves_their_states_out(shop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    inner = Workshop(tmp_path / "inner")
    inner.write("file")
    inner.cycle()
    shutil.copytree(inner.mirror, shop.source / "first")

    found = shop.cycle()

    assert found.result is Result.SUCCESS
    assert [each.path for each in found.of(OwnFilesSkipped)] == [b"first/.truecopy"]
    assert shop.names() == {"first", "first/file"}


def test_only_our_own_state_in_the_source_means_that_it_is_empty(shop: Workshop) -> None:
    shop.write("file")
    shop.cycle()
    (shop.source / "file").unlink()
    shutil.copytree(shop.state, shop.source / ".truecopy")
    for name in ("lost+found", ".stfolder"):
        (shop.source / name).mkdir()

    found = shop.cycle()

    assert [event.reason for event in found.of(PairRefused)] == [Refusal.SOURCE_EMPTY]


def test_lost_found_counts_as_no_content_though_it_is_taken_in(shop: Workshop) -> None:
    shop.options["exclude"] = ["!lost+found/"]
    shop.write("file")
    shop.cycle()
    (shop.source / "file").unlink()
    (shop.source / "lost+found").mkdir()

    assert [event.reason for event in shop.cycle().of(PairRefused)] == [Refusal.SOURCE_EMPTY]


@pytest.mark.parametrize("name", ["lost+found", ".stfolder"])
def test_a_fresh_mirror_is_empty_whatever_made_folders_in_it(shop: Workshop, name: str) -> None:
    (shop.mirror / name).mkdir(mode=0o700)

    # What an empty source of a new pair means is not settled here, but not by what the mirror holds.
    assert [event.reason for event in shop.cycle().of(PairRefused) if event.reason is Refusal.SOURCE_EMPTY] == []


@pytest.mark.needs_root
def test_lost_found_of_root_is_no_failure_for_an_ordinary_user(open_shop: Workshop) -> None:
    (open_shop.source / "lost+found").mkdir(mode=0o700)
    open_shop.write("file").chmod(0o644)
    os.chown(open_shop.mirror, NOBODY, NOBODY)

    assert as_nobody(open_shop).result is Result.SUCCESS
    assert open_shop.names() == {"file"}
