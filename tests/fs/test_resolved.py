"""Links in a path are resolved as the system does it, but no server is asked."""

import os
from pathlib import Path

import pytest

from job.fs.mounts import is_below, resolve_path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/relative").symlink_to("../a/b")
    (tmp_path / "absolute").symlink_to(tmp_path / "a")
    (tmp_path / "a/b/up").symlink_to("..")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


@pytest.mark.parametrize(
    "path",
    [
        "a/relative/c",
        "absolute/relative/c/missing",
        "a/b/up/../a",
        "a/relative/../b",
        "nothing/here",
        "loop/below",
        ".",
    ],
)
def test_a_path_is_resolved_as_the_system_does_it(tree: Path, path: str) -> None:
    assert resolve_path(str(tree / path)) == os.path.realpath(tree / path)
    assert resolve_path(os.path.join(str(tree), "absolute", "..", path)) == os.path.realpath(
        os.path.join(str(tree), "absolute", "..", path)
    )


def test_a_path_is_below_a_folder_whatever_links_lead_there(tree: Path) -> None:
    assert is_below(str(tree / "absolute/b/log"), str(tree / "a"))
    assert is_below(str(tree / "a/b/log"), str(tree / "absolute"))
    assert not is_below(str(tree / "a/log"), str(tree / "a/b"))
