"""What the exclude patterns leave out is what git leaves out, byte for byte.

Each set of patterns is the `.gitignore` of a folder of its own in one repository, so that git answers for a thousand
sets in one call. Three things are git's own and no matter of patterns: it never lists `.git`, it lists no folders, so
empty ones are unknown to it, and a `.gitignore` holds lines, so that no pattern in it can hold a line end.
"""

import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from job.core.entry import join
from job.core.exclude import ExcludeRules, parse
from job.fs.listing import Listing
from job.fs.scanners import SourceScanner


def words(text: str, *more: str) -> tuple[str, ...]:
    return (*text.split(" "), *more)


NAMES = words(
    "a b ab abc A a.b .a a.jpg b.tmp 1 42 a1 x-y -  # #a ! !a [ ] [x] a] a\\ \\ * a* ** ? a? { ~ ^ é ä \t a\r : [:a:]",
    *("a ", " a", " ", "\n", "a\n", "\na", "\udcff", "a\udcfe", "\x01", "\x7f", "\x0b"),
)
PIECES = words(
    "a b ab . .jpg .tmp 1 42 x * * * ** ** / / / /**/ **/ /** ? ? *** \\ \\* \\a \\\\ \\[ \\/ \\! \\# [ab] [!a] [^b]"
    " [a-c] [!0-9] [0-9] []] [!]] [[] [[]x[]] [a-] [-a] [--b] []-b] [a-c-e] [z-a] [\\]] [\\a-\\c] [/] [a/b]"
    " [[:digit:]] [[:alpha:]-] [![:alnum:]] [[:space:][:punct:]] [[:upper:]a] [[:cntrl:]] [[:graph:]] [[:print:]b] [[:]"
    " [[:a] [[:a:]] [[::]] [ ] [a - ! # ^ é \udcff [\udcf0-\udcff] { : ~ \t",
    *(" ", "\\ ", "\r", "\x0b"),
)
WHOLE = words(
    "* !*/ !*.jpg a/** !a/b */ **/ ** !** /* /a/ a/ !a/ photos/**/ a/**/ /**/a **/a/** a**/b /a**/b a/b**/b a/*/b !/a "
    "*[!0-9] [[]x[]] *.* !.* \\!a \\#a #a a\\ a\\\\ a\\  ! / // /// !/ a// a\\/b a**\\/b **\\/b",
    *("", " ", "a ", "a\\ ", "a\\  ", "a\\\\ ", " a", "a\r", "a\r\r", "# a", "a\t"),
)
CLASSES = words("alnum alpha blank cntrl digit graph lower print punct space upper xdigit")


def a_name(chance: random.Random) -> str:
    return chance.choice(NAMES) if chance.random() < 0.8 else chance.choice(NAMES) + chance.choice(NAMES)


def a_pattern(chance: random.Random) -> str:
    if chance.random() < 0.45:
        return chance.choice(WHOLE)
    made = "".join(chance.choice(PIECES if chance.random() < 0.7 else NAMES) for _ in range(chance.randint(1, 6)))
    made = chance.choice(("", "", "", "!", "!", "/", "!/")) + made + chance.choice(("", "", "/"))
    return made.replace("\n", "")


def grow(chance: random.Random, folder: bytes, depth: int = 0) -> None:
    """Make a tree in which every folder holds a file, since git lists files."""
    for _ in range(chance.randint(1, 5)):
        name = os.fsencode(a_name(chance)).replace(b"/", b"")
        path = join(folder, name)
        if os.path.lexists(path) or name in {b"", b".", b".."}:
            continue
        kind = chance.random()
        if kind < 0.5 and depth < 4:
            os.mkdir(path)
            grow(chance, path, depth + 1)
        elif kind < 0.55:
            os.symlink("a", path)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL))


def git(folder: Path, *arguments: str) -> bytes:
    environ = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return subprocess.run(["git", *arguments], cwd=folder, env=environ, check=True, capture_output=True).stdout


def kept_by_git(folder: Path) -> set[bytes]:
    listed = git(folder, "ls-files", "-z", "--others", "--exclude-standard")
    return {path for path in listed.split(b"\0") if path and not path.endswith(b"/.gitignore")}


def kept_by_us(folder: Path, rules: ExcludeRules) -> Iterator[bytes]:
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    scanner = SourceScanner(root, rules)
    try:
        for found in scanner.walk():
            assert isinstance(found, Listing)
            yield from (
                join(found.path, e.name) for e in found.entries if e.kind != "folder" and e.name != b".gitignore"
            )
    finally:
        scanner.close()
        os.close(root)


def can_match(pattern: str) -> bool:
    try:
        parse(pattern)
    except ValueError:
        return False
    return True


def write(path: Path, patterns: Sequence[str]) -> None:
    path.write_bytes(b"".join(os.fsencode(pattern) + b"\n" for pattern in patterns))


@pytest.mark.needs_tool("git")
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))])
def test_hundreds_of_random_sets_of_patterns_leave_out_what_git_leaves_out(tmp_path: Path, seed: int) -> None:
    """What we refuse, because it can never match, git is given as well: it must make no difference to it."""
    git(tmp_path, "init", "-q")
    chance, sets = random.Random(seed), dict[bytes, list[str]]()
    for number in range(250):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        grow(chance, os.fsencode(folder))
        sets[os.fsencode(folder.name)] = [a_pattern(chance) for _ in range(chance.randint(1, 5))]
        write(folder / ".gitignore", sets[os.fsencode(folder.name)])

    by_git = kept_by_git(tmp_path)

    for name, patterns in sets.items():
        rules = ExcludeRules([pattern for pattern in patterns if can_match(pattern)] or ["#"])
        ours = {name + b"/" + path for path in kept_by_us(tmp_path / name.decode(), rules)}
        assert ours == {path for path in by_git if path.startswith(name + b"/")}, patterns


@pytest.mark.needs_tool("git")
@pytest.mark.parametrize(
    "patterns",
    [
        ("*", "!*/", "!*.jpg"),
        ("a/**", "!a/keep"),
        ("*[!0-9]",),
        ("log.[[:digit:]]", "[[]x[]]"),
        ("a/**/",),
        ("a**/keep",),
        ("/a", "!a/keep"),
        ("KEEP", "\\ ", "two\\ ", "#a", "\\!b"),
    ],
    ids=str,
)
def test_a_repository_of_its_own_with_the_patterns_beside_it_agrees(tmp_path: Path, patterns: tuple[str, ...]) -> None:
    tree = tmp_path / "tree"
    for name in (
        "2024/may/a.jpg",
        "2024/may/a.raw",
        "2024/5",
        "a/keep",
        "a/b/keep",
        "a/b/c",
        "ab/keep",
        "notes",
        "KEEP",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    for name in ("log.1", "log.a", "[x]", "x", " ", "two ", "two", "#a", "!b"):
        (tree / name).touch()
    git(tmp_path, "init", "-q", "--bare", "bare")
    write(tmp_path / "bare/info/exclude", patterns)

    listed = git(tree, "--git-dir", "../bare", "--work-tree", ".", "ls-files", "-z", "--others", "--exclude-standard")

    assert sorted(kept_by_us(tree, ExcludeRules(patterns))) == sorted(filter(None, listed.split(b"\0")))


@pytest.mark.needs_tool("git")
def test_every_byte_is_in_the_sets_in_which_git_has_it(tmp_path: Path) -> None:
    sets = ["[!a]", "[[-a]", "[\\]-a]", "[^]-]", "[a-]", "[/-9]"]
    sets += [f"[{negated}[:{name}:]]" for name in CLASSES for negated in ("", "!")]
    git(tmp_path, "init", "-q")
    for number, pattern in enumerate(sets):
        (tmp_path / f"{number}").mkdir()
        for byte in set(range(1, 256)) - {ord("/")}:
            (tmp_path / os.fsdecode(b"%d/x%c" % (number, byte))).touch()
        write(tmp_path / f"{number}/.gitignore", ["x" + pattern])

    by_git = kept_by_git(tmp_path)

    for number, pattern in enumerate(sets):
        ours = {b"%d/" % number + path for path in kept_by_us(tmp_path / f"{number}", ExcludeRules(["x" + pattern]))}
        assert ours == {path for path in by_git if path.startswith(b"%d/" % number)}, pattern
