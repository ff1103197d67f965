"""What is out of scope, by the semantics of gitignore."""

import stat
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job.core.entry import join
from job.core.exclude import ALWAYS_EXCLUDED, ExcludeRules, deciding_pattern
from tests.core.samples import a_file, a_folder, a_link, names


def excluded(*patterns: str) -> ExcludeRules:
    return ExcludeRules(patterns)


def excludes(rules: ExcludeRules, path: bytes, *, folder: bool) -> bool:
    """Say whether the entry at a path, or a folder above it, is excluded."""
    above = b""
    *parents, last = path.split(b"/")
    for name in parents:
        if not rules.in_scope(above, [row(name, folder=True)]):
            return True
        above = join(above, name)
    return not rules.in_scope(above, [row(last, folder=folder)])


def row(name: bytes, *, folder: bool) -> tuple[bytes, int, int, int, int, int, int, int]:
    return name, 1, stat.S_IFDIR if folder else stat.S_IFREG, 0, 0, 0, 0, 0


@pytest.mark.parametrize(
    ("patterns", "path", "out"),
    [
        (["*.tmp"], b"a.tmp", True),
        (["*.tmp"], b"deep/down/a.tmp", True),
        (["*.tmp"], b"a.tmp.txt", False),
        (["/cache"], b"cache", True),
        (["/cache"], b"deep/cache", False),
        (["build/"], b"build", False),
        (["docs/*.txt"], b"docs/a.txt", True),
        (["docs/*.txt"], b"docs/deep/a.txt", False),
        (["docs/**/a.txt"], b"docs/very/deep/a.txt", True),
        (["*.log", "!keep.log"], b"keep.log", False),
        (["*.log", "!keep.log"], b"other.log", True),
        (["# a remark", ""], b"# a remark", False),
        (["*.tmp"], b"\xff.tmp", True),
        (["data/?"], b"data/\xff", True),
        (["data/?"], "data/é".encode(), False),
        (["data/??"], "data/é".encode(), True),
        (["*", "!*/", "!*.jpg"], b"2024/may/a.jpg", False),
        (["*", "!*/", "!*.jpg"], b"2024/may/a.raw", True),
        (["cache/**", "!cache/keep.txt"], b"cache/keep.txt", False),
        (["cache", "!cache/keep.txt"], b"cache/keep.txt", True),
        (["*[!0-9]"], b"2024/5", False),
        (["photos/**/"], b"photos/a.jpg", False),
        (["photos/**/"], b"photos/may/a.jpg", True),
        (["log.[[:digit:]]"], b"log.1", True),
        (["[[]x[]]"], b"[x]", True),
        (["two\nlines"], b"two\nlines", True),
        (["Icon[\r]"], b"Icon\r", True),
    ],
)
def test_patterns_mean_what_they_mean_to_git(patterns: list[str], path: bytes, *, out: bool) -> None:
    assert excludes(excluded(*patterns), path, folder=False) is out


def test_a_pattern_with_a_slash_at_its_end_means_folders_only() -> None:
    rules = excluded("build/")

    assert excludes(rules, b"build", folder=True)
    assert excludes(rules, b"deep/build", folder=True)
    assert not excludes(rules, b"build", folder=False)


def test_syncthings_marker_folder_is_out_of_scope_by_default_at_any_depth() -> None:
    rules = excluded()

    assert excludes(rules, b".stfolder", folder=True)
    assert excludes(rules, b"deep/down/.stfolder", folder=True)
    assert not excludes(rules, b".stfolder", folder=False)


def test_a_later_pattern_takes_the_marker_folder_in_again() -> None:
    rules = excluded("!.stfolder/")

    assert not excludes(rules, b".stfolder", folder=True)
    assert rules.in_scope(b"", [a_folder()._replace(name=b".stfolder")])


@pytest.mark.parametrize("name", [b"a.tmp\n", b"a.tmp\nb"])
def test_a_line_end_at_the_end_of_a_name_belongs_to_the_name(name: bytes) -> None:
    assert not excludes(excluded("*.tmp"), name, folder=False)


def test_a_line_end_in_a_folder_does_not_hide_what_is_below_it() -> None:
    assert excludes(excluded("*.tmp"), b"two\nlines/a.tmp", folder=False)
    assert excludes(excluded(), b"two\nlines/.stfolder", folder=True)


@given(st.lists(st.sampled_from(["*.tmp", "/a", "b/", "!b/", "**/c", "d?"])), st.lists(st.sampled_from(["*.x", "/a"])))
def test_the_digest_changes_exactly_with_the_patterns(one: list[str], other: list[str]) -> None:
    assert (excluded(*one).digest == excluded(*other).digest) is (one == other)


def test_one_pattern_does_not_pass_for_two() -> None:
    assert excluded("a\0b").digest != excluded("a", "b").digest


@given(
    st.sampled_from([(), ("*.tmp",), ("!.stfolder/",), ("[a-c]*", "!b/"), ("/folder/*",)]),
    st.sampled_from([b"", b"folder", b"two\nlines", b"\xff\xfe"]),
    st.lists(st.one_of(names, st.sampled_from([b".stfolder", b"a.tmp", b"b", b"c\n", b".stfolder\n"])), unique=True),
    st.data(),
)
def test_the_scope_of_a_folder_is_that_of_its_entries_one_by_one(
    patterns: tuple[str, ...], folder: bytes, found: list[bytes], data: st.DataObject
) -> None:
    rules = ExcludeRules(patterns)
    kinds = st.sampled_from([a_file(), a_folder(), a_link()])
    entries = [data.draw(kinds)._replace(name=name) for name in found]

    kept = rules.in_scope(folder, entries)

    assert kept == [e for e in entries if not excludes(rules, join(folder, e.name), folder=e.kind == "folder")]


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a*b*c*d*.tmp", b"a" * 60 + b"b" * 60 + b"c" * 60 + b"d" * 60),
        ("**/a*/**/b*/**/*.tmp", b"a/b/" * 500 + b"x"),
        ("/**/x*/**/x*/**/x*/**/y", b"x/" * 1000 + b"x"),
        ("[!b]*[!b]*[!b]*[!b]*[!b]*b", b"a" * 250),
        ("a**\\/b**\\/a/**/c", b"a/b/" * 500 + b"x"),
    ],
)
def test_a_hostile_name_costs_no_more_than_its_length(pattern: str, path: bytes) -> None:
    rules = excluded(pattern)
    began = time.process_time()

    assert not excludes(rules, b"x/" + path, folder=False)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("pattern", ["**/a*/**/b*/**/*.tmp", "/**/x*/**/x*/**/x*/**/y", "**/*a*/**/*a*/**/*b/c"])
def test_names_in_a_folder_of_any_depth_cost_no_more_than_the_length_of_its_path(pattern: str) -> None:
    folder = b"/".join([b"a", b"b", b"x"] * 30_000)
    entries = [a_file()._replace(name=b"a" * 50 + b"b" * 50 + b"%05d" % number) for number in range(10)]
    rules = ExcludeRules((pattern,))
    began = time.process_time()

    assert rules.in_scope(folder, entries) == entries
    assert time.process_time() - began < 3


def test_a_pattern_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ValueError, match="!"):
        excluded("!")


@given(parts=st.lists(st.one_of(names, st.just(b".stfolder")), min_size=1, max_size=4), folder=st.booleans())
def test_what_is_out_of_scope_by_default_is_so_without_gitignore_too(parts: list[bytes], *, folder: bool) -> None:
    path = b"/".join(parts)

    assert excludes(excluded(), path, folder=folder) is excludes(excluded("# a remark"), path, folder=folder)


@given(
    patterns=st.lists(
        st.sampled_from(["*.tmp", "!a.tmp", "/a", "b/", "!b/", "# note", "c/d", "**/a", "!.stfolder/"]), max_size=5
    ),
    path=st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"a.tmp", b".stfolder"]), min_size=1, max_size=3).map(
        b"/".join
    ),
    folder=st.booleans(),
)
def test_the_deciding_pattern_decides(patterns: list[str], path: bytes, *, folder: bool) -> None:
    above, _, name = path.rpartition(b"/")

    decided = deciding_pattern(patterns, path, folder=folder)

    is_out = not excluded(*patterns).in_scope(above, [row(name, folder=folder)])
    assert is_out is (decided is not None and decided[1])
    assert decided is None or decided[0] in {*patterns, *ALWAYS_EXCLUDED}
