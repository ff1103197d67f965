"""The trees that are copied, and the comparison that every figure rests on."""

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
    assert len(folders) == 12
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
