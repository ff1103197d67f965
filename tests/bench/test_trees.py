"""The trees that are copied, and the comparison that every figure rests on."""

import os
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tests.bench import trees


def test_the_same_seed_grows_the_same_tree_and_another_seed_another(tmp_path: Path) -> None:
    trees.grow(tmp_path / "a", 120)
    trees.grow(tmp_path / "b", 120)
    trees.grow(tmp_path / "c", 120, seed=2)

    first, second, third = (trees.listing(tmp_path / name) for name in "abc")

    assert first == second
    assert first != third


def test_a_tree_has_the_number_of_files_asked_for_and_no_empty_folder(tmp_path: Path) -> None:
    trees.grow(tmp_path / "tree", 125)

    files = [path for path in (tmp_path / "tree").rglob("*") if path.is_file()]
    folders = [path for path in (tmp_path / "tree").rglob("*") if path.is_dir()]

    assert len(files) == 125
    assert all(any(path.is_file() for path in folder.iterdir()) for folder in folders)


def test_a_large_file_has_exactly_its_size(tmp_path: Path) -> None:
    trees.grow_large(tmp_path / "large", trees.BLOCK + 5)

    (path,) = (tmp_path / "large").iterdir()

    assert path.stat().st_size == trees.BLOCK + 5


def test_a_change_touches_the_share_asked_for_and_keeps_names_and_inodes(tmp_path: Path) -> None:
    trees.grow(tmp_path, 100)
    before, inodes = trees.listing(tmp_path), {path: path.stat().st_ino for path in tmp_path.rglob("*")}

    count = trees.change(tmp_path, 0.05, turn=3)

    after = trees.listing(tmp_path)
    changed = [path for path in before if before[path].checksum != after[path].checksum]
    assert count == len(changed) == 5
    assert before.keys() == after.keys()
    assert inodes == {path: path.stat().st_ino for path in tmp_path.rglob("*")}


def test_differences_name_what_is_missing_surplus_or_different_and_pass_over_the_state_folder(tmp_path: Path) -> None:
    for side in ("left", "right"):
        trees.grow(tmp_path / side, 3)
    names = sorted(path.name for path in (tmp_path / "left").iterdir())
    (tmp_path / "right" / names[0]).unlink()
    (tmp_path / "right" / names[1]).chmod(0o600)
    (tmp_path / "right" / "surplus").touch()
    (tmp_path / "right" / ".truecopy").mkdir()

    lines = trees.differences(trees.listing(tmp_path / "left"), trees.listing(tmp_path / "right"))

    assert lines == [f"missing: {names[0]!r}", f"different mode: {names[1]!r}", "too much: 'surplus'"]


def test_every_turn_changes_other_files_until_all_had_theirs(tmp_path: Path) -> None:
    trees.grow(tmp_path, 20)
    seen = [trees.listing(tmp_path)]

    for turn in range(4):
        trees.change(tmp_path, 0.25, turn=turn)
        seen.append(trees.listing(tmp_path))

    changed = [{path for path in old if old[path] != new[path]} for old, new in pairwise(seen)]
    assert [len(paths) for paths in changed] == [5, 5, 5, 5]
    assert len(set.union(*changed)) == 20


def test_files_have_the_sizes_of_real_ones_and_folders_are_crowded_unevenly(tmp_path: Path) -> None:
    trees.grow(tmp_path, 2000)

    sizes = sorted(path.stat().st_size for path in tmp_path.rglob("*.dat"))
    crowds = Counter(path.parent for path in tmp_path.rglob("*.dat"))

    assert 3000 < sizes[1000] < 4300
    assert 700 < sizes[500] < 1500
    assert 9000 < sizes[1500] < 16000
    assert 7 < 2000 / len(crowds) < 16
    assert max(crowds.values()) > 50


def test_tiny_files_are_tiny(tmp_path: Path) -> None:
    trees.grow(tmp_path, 100, tiny=True)

    assert max(path.stat().st_size for path in tmp_path.rglob("*.dat")) <= trees.TINY_FILE


def test_a_tree_is_read_again_when_a_file_in_it_moved_though_its_size_and_time_did_not(tmp_path: Path) -> None:
    for side in ("left", "right"):
        trees.grow(tmp_path / side, 20)
    compared = trees.Compared()
    before = [compared.content(tmp_path / side) for side in ("left", "right")]
    path = max((tmp_path / "right").rglob("*.dat"), key=lambda path: path.stat().st_size)
    times = path.stat()

    path.write_bytes(bytes(times.st_size))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert before[0] == before[1]
    assert [compared.content(tmp_path / side) == before[0] for side in ("left", "right")] == [True, False]


def test_a_hollow_tree_has_its_names_and_inodes_and_no_content(tmp_path: Path) -> None:
    trees.grow(tmp_path, 20)
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*")}

    trees.hollow(tmp_path)

    assert {path: path.stat().st_ino for path in tmp_path.rglob("*")} == before
    assert {path.stat().st_size for path in tmp_path.rglob("*.dat")} == {0}
