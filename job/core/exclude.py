"""Which entries of a source are excluded: gitignore patterns, with the same results as git. Pure.

The last pattern that matches an entry decides, and nothing below an excluded folder is examined. Patterns are
translated to regular expressions over bytes, by the rules of git's `dir.c` and `wildmatch.c`: a pattern with a slash
before its end matches the whole path below the root, any other one the name.

A match takes linear time in the length of the path: the parts between two stars have a fixed length, so the leftmost
position of a part is the right one if any is, and atomic groups prevent backtracking.
"""

import hashlib
import re
import stat
import string
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, Self, TypeVar

_Row = TypeVar("_Row", bound=tuple[bytes, int, int, int, int, int, int, int])
_Matcher = re.Pattern[bytes] | None

ALWAYS_EXCLUDED = (".stfolder/", "/lost+found/")
"""Excluded by default, as by the original; a later pattern such as `!.stfolder/` includes them again.

A `lost+found` elsewhere is left out only at the root of a file system, see `fs/scanners.py`.
"""

_FOLDERS_ANYWHERE = frozenset(each[:-1].encode("ascii") for each in ALWAYS_EXCLUDED if not each.startswith("/"))
_FOLDERS_AT_ROOT = frozenset(each[1:-1].encode("ascii") for each in ALWAYS_EXCLUDED if each.startswith("/"))


class _PatternGroup(NamedTuple):
    """Consecutive patterns with the same result, with one expression for each way of matching."""

    excludes: bool
    name: _Matcher
    path: _Matcher
    folder_name: _Matcher
    """For folders: patterns for folders only and those for all entries."""
    folder_path: _Matcher


class ExcludeRules:
    """The exclude patterns of a pair, compiled.

    Raises `ValueError` for a pattern that can never match, with the pattern and the reason in the message.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        effective = (*ALWAYS_EXCLUDED, *patterns)
        self._groups = _compiled(effective) if patterns else None
        self._by_path = any(group.path or group.folder_path for group in self._groups or ())
        self.digest = hashlib.sha256(repr(effective).encode("utf-8", "surrogateescape")).digest()
        """Changes with the patterns, so that fingerprints made with other patterns do not match."""

    def in_scope(self, folder: bytes, rows: list[_Row], folders: Sequence[bytes] | None = None) -> list[_Row]:
        """Return the entries of a folder that are not excluded; `folder` is its path below the root, and not excluded.

        Rows are entries or plain tuples of their fields: the scan makes no object for an entry. If the names of the
        `folders` among them are given, the same list is mostly returned without a loop.
        """
        if self._groups is None:
            out = _FOLDERS_ANYWHERE if folder else _FOLDERS_ANYWHERE | _FOLDERS_AT_ROOT
            if folders is not None and out.isdisjoint(folders):
                return rows
            return [row for row in rows if row[0] not in out or not stat.S_ISDIR(row[2])]
        above = folder + b"/" if folder and self._by_path else b""
        return [row for row in rows if not self._last_match(above + row[0], row[0], folder=stat.S_ISDIR(row[2]))]

    def _last_match(self, path: bytes, name: bytes, *, folder: bool) -> bool | None:
        """Return whether the last matching pattern excludes; None if none matches."""
        for excludes, by_name, by_path, by_folder_name, by_folder_path in self._groups or ():
            if folder:
                by_name, by_path = by_folder_name, by_folder_path  # noqa: PLW2901  # folders have expressions of their own
            if (by_name and by_name.fullmatch(name)) or (by_path and by_path.fullmatch(path)):
                return excludes
        return None

    @classmethod
    def without_defaults(cls, patterns: Sequence[str]) -> Self:
        """Return rules by which only these patterns exclude anything. Raises as the constructor does."""
        return cls((*(f"!{pattern}" for pattern in ALWAYS_EXCLUDED), *patterns))

    def excludes_folder(self, path: bytes) -> bool:
        """Return whether the folder at this path, or one above it, is excluded."""
        above = b""
        for name in path.split(b"/") if path else ():
            if not self.in_scope(above, [(name, 0, stat.S_IFDIR, 0, 0, 0, 0, 0)]):
                return True
            above = above + b"/" + name if above else name
        return False

    def includes_folder(self, folder: bytes) -> bool:
        """Return whether a pattern includes the folder at this path explicitly."""
        return self._last_match(folder, folder.rpartition(b"/")[2], folder=True) is False


def deciding_pattern(patterns: Sequence[str], path: bytes, *, folder: bool) -> tuple[str, bool] | None:
    """Return the last pattern that matches an entry, also a default one, and whether it excludes; None if none does.

    Patterns that exclude a folder above it are not considered. Slow: for single entries.
    """
    name = path.rpartition(b"/")[2]
    for line in reversed((*ALWAYS_EXCLUDED, *patterns)):
        for group in _compiled([line]):
            by_name, by_path = (group.folder_name, group.folder_path) if folder else (group.name, group.path)
            if (by_name and by_name.fullmatch(name)) or (by_path and by_path.fullmatch(path)):
                return line, group.excludes
    return None


def _compiled(lines: Sequence[str]) -> list[_PatternGroup]:
    """Return the groups in the order of evaluation: the last pattern first."""
    patterns = [pattern for pattern in map(_parsed, lines) if isinstance(pattern, Pattern)]
    return [
        _group(excludes, list(alike)) for excludes, alike in groupby(reversed(patterns), lambda each: each.excludes)
    ]


def _parsed(line: str) -> "Pattern | None":
    try:
        return parse(line)
    except UnicodeEncodeError:
        raise
    except ValueError as error:
        raise ValueError(f"the pattern {line!r} can never match: {error}") from error


def _group(excludes: bool, patterns: list["Pattern"]) -> _PatternGroup:  # noqa: FBT001  # a field of the group
    def matcher(*, path: bool, folder: bool) -> _Matcher:
        return _any_of([e.expression for e in patterns if e.whole_path is path and (folder or not e.folders_only)])

    return _PatternGroup(
        excludes,
        matcher(path=False, folder=False),
        matcher(path=True, folder=False),
        matcher(path=False, folder=True),
        matcher(path=True, folder=True),
    )


def _any_of(expressions: list[bytes]) -> _Matcher:
    return re.compile(b"|".join(b"(?:" + each + b")" for each in expressions), re.DOTALL) if expressions else None


# Compiled for the first pattern: `re` keeps what it compiled, and most starts need none.
_LITERAL = rb"[^*?\[\\]*"
_TOKEN = rb"(?s)(?P<stars>\*+)|(?P<any>\?)|(?P<slash>\\?/)|(?P<set>\[)|\\(?P<escaped>.)|(?P<plain>[^\\])"
_SET_PART = rb"(?s)\[:(?P<named>[^\]]*):\]|(?P<low>\\.|[^\\])(?:-(?P<high>\\.|[^\]\\]))?"

_PUNCTUATION = frozenset(string.punctuation.encode("ascii"))
_DIGITS, _LOWER, _UPPER = (
    frozenset(text.encode("ascii")) for text in (string.digits, string.ascii_lowercase, string.ascii_uppercase)
)
_ALNUM = _DIGITS | _LOWER | _UPPER
_NAMED = {
    b"alnum": _ALNUM,
    b"alpha": _LOWER | _UPPER,
    b"blank": frozenset(b" \t"),
    b"cntrl": frozenset((*range(32), 127)),
    b"digit": _DIGITS,
    b"graph": _ALNUM | _PUNCTUATION,
    b"lower": _LOWER,
    b"print": _ALNUM | _PUNCTUATION | frozenset(b" "),
    b"punct": _PUNCTUATION,
    b"space": frozenset(b" \t\n\r"),  # git's own table, without \v and \f
    b"upper": _UPPER,
    b"xdigit": frozenset(string.hexdigits.encode("ascii")),
}

_STAR, _SLASH, _DEEP, _DEEP_SLASH = b"*", b"/", b"**", b"**/"


class Pattern(NamedTuple):
    """One pattern, ready to be compiled."""

    excludes: bool
    """False for a pattern with `!`, which includes entries again."""
    folders_only: bool
    whole_path: bool
    """Whether the path below the root is matched, or the name."""
    expression: bytes
    """For `re.fullmatch` with `re.DOTALL`."""


def parse(line: str) -> Pattern | None:
    """Read one line of a gitignore file; None for a line without a pattern, such as a comment.

    Raises `ValueError`, with the reason, for a pattern that git accepts and that can never match.
    """
    text = _without_end(line.encode("utf-8", "surrogateescape"))
    if not text or text.startswith(b"#"):
        return None
    excludes = not text.startswith(b"!")
    text = text if excludes else text[1:]
    if not text:
        raise ValueError("nothing follows the '!'")
    folders_only = text.endswith(b"/")
    text = text[:-1] if folders_only else text
    whole_path = b"/" in text
    text = text.removeprefix(b"/")
    if not text:
        return None
    return Pattern(excludes, folders_only, whole_path, _expression(text))


def _without_end(line: bytes) -> bytes:
    """Remove one carriage return at the end, and spaces that no backslash escapes."""
    line = line.removesuffix(b"\r")
    kept = line.rstrip(b" ")
    backslashes = len(kept) - len(kept.rstrip(b"\\"))
    return line[: len(kept) + 1] if backslashes % 2 else kept


def _expression(text: bytes) -> bytes:
    """Translate to blocks with `**` between them; a block is segments, a segment is parts with stars between them."""
    blocks: list[list[bytes]] = [[]]
    gaps: list[bytes] = []
    for token in _tokens(text):
        if token in {_DEEP, _DEEP_SLASH}:
            gaps.append(token)
            blocks.append([])
        else:
            blocks[-1].append(token)
    first, *others = map(_block, blocks)
    written = [first]
    for number, (gap, block) in enumerate(zip(gaps, others, strict=True), start=1):
        skipped = rb".*?" if gap == _DEEP else rb"(?:[^/]*+/)*?"
        written.append(skipped + block if number == len(gaps) else b"(?>" + skipped + block + b")")
    return b"".join(written)


def _block(tokens: list[bytes]) -> bytes:
    segments: list[list[bytes]] = [[b""]]
    for token in tokens:
        if token == _SLASH:
            segments.append([b""])
        elif token == _STAR:
            segments[-1].append(b"")
        else:
            segments[-1][-1] += token
    return b"/".join(_segment(*parts) for parts in segments)


def _segment(first: bytes, *others: bytes) -> bytes:
    if not others:
        return first
    between = b"".join(b"(?>[^/]*?" + part + b")" for part in others[:-1] if part)
    last = b"(?>[^/]*" + others[-1] + b"(?![^/]))" if others[-1] else b"[^/]*+"
    return first + between + last


def _tokens(text: bytes) -> Iterator[bytes]:
    """Yield stars and slashes unchanged, and everything else as an expression for one byte."""
    begin = place = _literal_length(text)
    yield from (_SLASH if char == _SLASH else re.escape(char) for char in (text[i : i + 1] for i in range(begin)))
    while place < len(text):
        token = re.compile(_TOKEN).match(text, place)
        if token is None:
            raise ValueError("it ends with a backslash, which escapes nothing")
        place = token.end()
        match token.lastgroup:
            case "stars":
                deep = len(token[0]) > 1 and (token.start() == begin or text[token.start() - 1 : token.start()] == b"/")
                if deep and text.startswith(b"/", place):
                    place += 1
                    yield _DEEP_SLASH
                else:
                    yield _DEEP if deep and text[place : place + 2] in {b"", b"\\/"} else _STAR
            case "any":
                yield b"[^/]"
            case "slash":
                yield _SLASH
            case "set":
                place, expression = _set(text, place)
                yield expression
            case _:
                yield re.escape(token[0][-1:])


def _literal_length(text: bytes) -> int:
    """Return the length of the prefix without wildcards.

    Git compares it apart from the rest, so `**` right behind it counts as a beginning: `foo**/bar` matches `foobar`.
    """
    found = re.match(_LITERAL, text)
    return found.end() if found else 0


def _set(text: bytes, place: int) -> tuple[int, bytes]:
    """Translate the set whose `[` is before `place`; return the position behind its `]`, and the expression."""
    negated = text[place : place + 1] in {b"!", b"^"}
    place += negated
    found: set[int] = set()
    while True:
        part = re.compile(_SET_PART).match(text, place)
        if part is None:
            raise ValueError("a '[' in it has no ']'")
        place = part.end()
        if part["low"] is None:
            if part["named"] not in _NAMED:
                raise ValueError("the name in '[: :]' is none of " + ", ".join(name.decode() for name in _NAMED))
            found |= _NAMED[part["named"]]
        else:
            low = part["low"][-1]
            found.update((low, *range(low, part["high"][-1] + 1 if part["high"] else 0)))
        if text.startswith(b"]", place):
            break
    held = (set(range(256)) - found if negated else found) - {ord("/")}
    return place + 1, b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(held)) + b"]" if held else b"(?!)"
