"""What the mirror holds that left the source: since when, by the index; all of it, by a walk of both trees."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from job.app.preview_setup import open_preview
from job.core.entry import Kind
from job.core.outcome import Result
from job.core.versions import OrphanRow
from job.engine.preflight.open_pair import open_roots
from job.engine.versions.orphan_walk import NotWalked, Orphan, walked
from job.events.pair import OrphansCounted
from job.store.index import Index
from tests.engine.workshop import HOUR_NS, Workshop, as_nobody, nobody
from tests.fidelity import foreign


def rows(shop: Workshop) -> dict[bytes, OrphanRow]:
    """Give all rows of the index by path."""
    with closing(Index.open(str(shop.state))) as index:
        return {
            (folder + b"/" + name if folder else name): row
            for folder in index.orphans.folders()
            for name, row in index.orphans.named(folder).items()
        }


def found(shop: Workshop) -> list[Orphan | NotWalked]:
    with (
        open_roots(shop.pair, shop.config.state_dir) as roots,
        open_preview(shop.config, shop.pair, *roots) as view,
    ):
        return list(walked(view.source, roots, view.index, view.mirror))


def listed(shop: Workshop) -> dict[bytes, Orphan]:
    orphans = [each for each in found(shop) if isinstance(each, Orphan)]
    assert len(orphans) == len({each.path for each in orphans})
    return {each.path: each for each in orphans}


def extent(shop: Workshop) -> tuple[int, int]:
    with closing(Index.open(str(shop.state))) as index:
        return index.orphans.extent()


def removed(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


# Rows -----------------------------------------------------------------------------------------------------------------


def test_nothing_is_written_while_nothing_left(shop: Workshop) -> None:
    shop.write("folder/file")
    shop.cycle()
    shop.write("folder/file", "other")
    told = shop.cycle()

    assert rows(shop) == {}
    assert told.of(OrphansCounted) == []


def test_what_left_has_since_when_its_size_and_the_checksum_that_was_recorded(shop: Workshop) -> None:
    shop.write("folder/gone", "twelve bytes")
    shop.write("folder/stays")
    shop.cycle()
    [checksum] = [each.checksum for each in listed_as_gone(shop, "folder/gone")]
    told = shop.cycle()
    now_ns = shop.now_ns()

    [(path, row)] = rows(shop).items()
    assert path == b"folder/gone"
    assert (row.size, row.files, row.scan) == (12, 1, 0)
    assert row.checksum == checksum
    assert row.checksum.startswith("sha256:")
    assert 0 < now_ns - row.since_ns < 60 * 10**9
    assert row.stands_since_ns == (shop.mirror / "folder/gone").lstat().st_ctime_ns
    [event] = told.of(OrphansCounted)
    assert (event.files, event.bytes) == (1, 12) == extent(shop)


def listed_as_gone(shop: Workshop, *names: str) -> list[Orphan]:
    """Remove entries of the source, and list them before a cycle notices."""
    for name in names:
        removed(shop.source / name)
    orphans = listed(shop)
    assert {*orphans} == {*map(os.fsencode, names)}
    assert {each.since_ns for each in orphans.values()} == {0}
    return list(orphans.values())


def test_since_when_it_is_gone_stays_whatever_else_happens_in_its_folder(shop: Workshop) -> None:
    for name in ("gone", "later", "stays"):
        shop.write(f"folder/{name}")
    shop.cycle()
    removed(shop.source / "folder/gone")
    shop.cycle()
    before = rows(shop)[b"folder/gone"]
    shop.ahead_ns += HOUR_NS
    removed(shop.source / "folder/later")
    shop.write("folder/stays", "anew")
    shop.write("folder/new")
    shop.cycle()

    after = rows(shop)
    assert after[b"folder/gone"] == before
    assert after[b"folder/later"].since_ns - before.since_ns >= HOUR_NS
    assert listed(shop)[b"folder/gone"].since_ns == before.since_ns


def test_what_comes_back_is_no_orphan_and_begins_anew_when_it_goes_again(shop: Workshop) -> None:
    shop.write("file")
    shop.write("other")
    shop.cycle()
    removed(shop.source / "file")
    shop.cycle()
    [first] = rows(shop).values()
    shop.write("file")
    told = shop.cycle()
    assert rows(shop) == {}
    assert [(each.files, each.bytes) for each in told.of(OrphansCounted)] == [(0, 0)]
    shop.ahead_ns += HOUR_NS
    removed(shop.source / "file")
    shop.cycle()

    [second] = rows(shop).values()
    assert second.since_ns - first.since_ns >= HOUR_NS


def test_a_folder_that_left_is_one_row_with_all_below_it(shop: Workshop) -> None:
    shop.write("folder/a/one", "1")
    shop.write("folder/a/b/two", "22")
    shop.write("folder/a/b/gone", "333")
    shop.write("stays")
    shop.cycle()
    removed(shop.source / "folder/a/b/gone")
    shop.cycle()
    removed(shop.source / "folder")
    shop.cycle()

    assert {path: (row.files, row.size) for path, row in rows(shop).items()} == {
        b"folder": (2, 3),
        b"folder/a/b/gone": (1, 3),
    }
    assert extent(shop) == (3, 6)
    assert {path: (each.kind, each.files, each.bytes) for path, each in listed(shop).items()} == {
        b"folder": (Kind.FOLDER, 3, 6)
    }


def test_a_folder_that_comes_back_has_its_own_orphans_still(shop: Workshop) -> None:
    shop.write("folder/gone")
    shop.write("folder/file")
    shop.write("stays")
    shop.cycle()
    removed(shop.source / "folder/gone")
    shop.cycle()
    before = rows(shop)
    removed(shop.source / "folder")
    shop.cycle()
    shop.write("folder/file")
    shop.cycle()

    assert rows(shop) == before


def test_excluded_entries_are_no_orphans_and_none_by_an_edit_of_the_patterns(shop: Workshop) -> None:
    for name in ("a.iso", "kept.iso", "b", "folder/c"):
        shop.write(name)
    shop.cycle()
    removed(shop.source / "a.iso")
    shop.cycle()
    assert {*rows(shop)} == {b"a.iso"}
    shop.options["exclude"] = ["*.iso", "folder/"]
    shop.cycle()

    assert rows(shop) == {}
    assert listed(shop) == {}


@pytest.mark.needs_root
def test_what_cannot_be_read_in_the_source_is_no_orphan(open_shop: Workshop) -> None:
    shop = open_shop
    shop.write("folder/file")
    shop.write("other")
    shop.write("gone")
    as_nobody(shop)
    (shop.source / "gone").unlink()
    (shop.source / "folder").chmod(0)
    told = as_nobody(shop)
    with nobody():
        unread, noticed = found(shop), rows(shop)

    assert told.result is Result.PARTIAL
    assert {*noticed} == {b"gone"}
    assert [each.path for each in unread if isinstance(each, NotWalked)] == [b"folder"]


def test_what_the_mirror_has_of_another_kind_is_no_orphan(shop: Workshop) -> None:
    shop.write("name")
    shop.write("file")
    shop.cycle()
    removed(shop.source / "name")
    os.mkfifo(shop.source / "name")
    shop.cycle()

    assert rows(shop) == {}
    assert listed(shop) == {}


def test_own_files_of_truecopy_and_lost_and_found_are_no_orphans(shop: Workshop) -> None:
    shop.write("file")
    (shop.mirror / "lost+found").mkdir(0o700)
    shop.cycle()
    (shop.mirror / ".truecopy-tmp-00000000-1").mkdir()
    shop.write("file", "other")
    shop.cycle()

    assert rows(shop) == {}
    assert listed(shop) == {}


def test_an_adopted_mirror_has_the_orphans_of_its_past(shop: Workshop) -> None:
    shop.write("file")
    (shop.mirror / "old").mkdir()
    (shop.mirror / "old/photo").write_text("1234")
    shop.cycle()

    assert {path: row.files for path, row in rows(shop).items()} == {b"old": 0}  # the index never knew what is in it
    assert listed(shop)[b"old"].files == 1


def test_an_index_that_was_lost_begins_anew(shop: Workshop) -> None:
    shop.write("file")
    shop.write("other")
    shop.cycle()
    removed(shop.source / "file")
    shop.cycle()
    (shop.state / "index.sqlite3").unlink()
    shop.ahead_ns += HOUR_NS
    shop.cycle()

    [row] = rows(shop).values()
    assert abs(row.since_ns - shop.now_ns()) < 60 * 10**9


def test_an_orphan_that_another_program_changed_loses_its_checksum(shop: Workshop) -> None:
    shop.write("folder/file")
    shop.write("folder/other")
    shop.cycle()
    removed(shop.source / "folder/file")
    shop.cycle()
    before = rows(shop)[b"folder/file"]
    (shop.mirror / "folder/file").write_text("another content")
    assert listed(shop)[b"folder/file"].checksum == ""
    shop.write("folder/new")
    shop.cycle()

    after = rows(shop)[b"folder/file"]
    assert (after.since_ns, after.size, after.checksum) == (before.since_ns, 15, "")


# Huge folders ---------------------------------------------------------------------------------------------------------


def test_a_huge_folder_has_rows_for_each_part(mirrored_huge: Workshop) -> None:
    shop = mirrored_huge
    huge = shop.source / "crowd"
    names = sorted(each.name for each in huge.glob("f-*"))
    for name in names[::3]:
        (huge / name).unlink()
    shop.cycle()
    first = rows(shop)
    assert {*first} == {os.fsencode(f"{huge.name}/{name}") for name in names[::3]}
    shop.ahead_ns += HOUR_NS
    (huge / names[1]).unlink()
    for number in range(3 * len(names)):  # in more parts than before
        (huge / f"new {number}").write_text("")
    shop.cycle()

    second = rows(shop)
    if shop.options["workers"] == 1:  # workers overtake each other
        assert {path: second[path].since_ns for path in first} == {path: row.since_ns for path, row in first.items()}
    assert {*second} - {*first} == {os.fsencode(f"{huge.name}/{names[1]}")}
    assert {*listed(shop)} == {*second}


# Mirrors that fold names ----------------------------------------------------------------------------------------------


@pytest.fixture(params=[pytest.param(foreign.exfat, id="exfat", marks=foreign.EXFAT)])
def folding(shop: Workshop, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Workshop]:
    with request.param(shop.mirror, tmp_path / "image"):
        yield shop


def test_another_spelling_is_no_orphan_on_a_mirror_that_ignores_case(folding: Workshop) -> None:
    folding.write("folder/Photo")
    folding.write("folder/other")
    folding.cycle()
    (folding.source / "folder/Photo").rename(folding.source / "folder/PHOTO")
    (folding.source / "folder").rename(folding.source / "Folder")
    folding.write("stays")
    folding.cycle()

    assert rows(folding) == {}
    assert listed(folding) == {}
    removed(folding.source / "Folder/PHOTO")
    folding.cycle()
    assert [path.lower() for path in rows(folding)] == [b"folder/photo"]
    assert [path.lower() for path in listed(folding)] == [b"folder/photo"]
