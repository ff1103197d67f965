import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.config.consistency import NAME_PATTERN, default_name, is_windows_path, relation, unique_names


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/source/music", "music"),
        ("/source/Music/", "music"),
        ("data/source", "source"),
        ("/home/me/Müsik & Töne", "musik-tone"),
        ("C:\\Users\\me\\Music", "music"),
        ("/home/me/.config", "config"),
        ("/", "pair"),
        (".", "pair"),
        ("/音楽", "pair"),
        ("/" + "x" * 200, "x" * 64),
    ],
)
def test_a_pair_is_named_after_the_last_folder_of_its_source(source: str, name: str) -> None:
    assert default_name(source) == name


def test_equal_names_are_numbered() -> None:
    assert unique_names([None, None, None], ["/a/music", "/b/music", "/c/music"]) == ("music", "music-2", "music-3")


def test_a_default_never_takes_a_given_name_even_of_a_later_pair() -> None:
    names = unique_names([None, "Music", "music-2"], ["/a/music", "/b/x", "/c/y"])

    assert names == ("music-3", "Music", "music-2")


@given(st.lists(st.tuples(st.one_of(st.none(), st.from_regex(NAME_PATTERN, fullmatch=True)), st.text(min_size=1))))
def test_default_names_fit_the_pattern_and_are_unique(pairs: list[tuple[str | None, str]]) -> None:
    given_names = [name for name, _ in pairs]

    names = unique_names(given_names, [source for _, source in pairs])

    defaults = [name for name, given_name in zip(names, given_names, strict=True) if given_name is None]
    assert all(re.fullmatch(NAME_PATTERN, name) for name in defaults)
    others = [name.casefold() for name in names]
    assert all(others.count(name) == 1 for name in defaults)


@pytest.mark.parametrize("path", ["C:\\Users", "c:/Users", "D:", "\\\\server\\share"])
def test_windows_paths_are_recognised(path: str) -> None:
    assert is_windows_path(path)


@pytest.mark.parametrize("path", ["/C:/x", "a:b", "data", "C", "//server/share", "x\\y"])
def test_linux_paths_are_not_taken_for_windows_ones(path: str) -> None:
    assert not is_windows_path(path)


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("/a", "/a/", "same"),
        ("/a/../b", "//b", "same"),
        ("data/x", "./data//x", "same"),
        ("/a/b", "/a", "inside"),
        ("/a", "/a/b", "around"),
        ("/", "/a", "around"),
        ("x", ".", "inside"),
        ("/ab", "/a", ""),
        ("/a", "a", ""),
        ("../x", ".", ""),
        ("/x", ".", ""),
    ],
)
def test_folders_are_related_by_their_text(one: str, other: str, told: str) -> None:
    assert relation(one, other) == told
