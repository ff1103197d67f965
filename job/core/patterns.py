"""Gitignore patterns with git's own results, translated to regular expressions over bytes. Pure.

The rules are those of git's `dir.c` and `wildmatch.c`: bytes are compared, and a pattern with a slash before its end
matches the whole path below the root, any other one the name alone.

A match takes time in proportion to the length of the path, whatever its names: the parts between two stars have a fixed
length, so the leftmost place of a part is the right one if any is, and an atomic group never looks for another.
"""

import re
import string
from collections.abc import Iterator
from typing import NamedTuple

_LITERAL = re.compile(rb"[^*?\[\\]*", re.DOTALL)
_TOKEN = re.compile(
    rb"(?P<stars>\*+)|(?P<any>\?)|(?P<slash>\\?/)|(?P<set>\[)|\\(?P<escaped>.)|(?P<plain>[^\\])", re.DOTALL
)
_SET_PART = re.compile(rb"\[:(?P<named>[^\]]*):\]|(?P<low>\\.|[^\\])(?:-(?P<high>\\.|[^\]\\]))?", re.DOTALL)

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
    """Not so for a pattern with `!`, which takes in again what an earlier one excludes."""
    folders_only: bool
    whole_path: bool
    """Whether the path below the root has to match, or the name alone."""
    expression: bytes
    """For `re.fullmatch` with `re.DOTALL`."""


def parse(line: str) -> Pattern | None:
    """Read one line of a gitignore file; None for a line that matches nothing by intention, such as a comment.

    Raises `ValueError`, with the reason, for a pattern that git accepts and that can never match anything.
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
    """Leave out one carriage return at the end, and spaces that no backslash escapes."""
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
    """Give stars and slashes as such, and everything else as an expression for exactly one byte."""
    begin = place = _literal_length(text)
    yield from (_SLASH if char == _SLASH else re.escape(char) for char in (text[i : i + 1] for i in range(begin)))
    while place < len(text):
        token = _TOKEN.match(text, place)
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
    """Tell how long the beginning without wildcards is.

    Git compares it apart from the rest, for which `**` right behind it is at the beginning: `foo**/bar` matches
    `foobar` and `foo/a/bar`.
    """
    found = _LITERAL.match(text)
    return found.end() if found else 0


def _set(text: bytes, place: int) -> tuple[int, bytes]:
    """Translate the set whose `[` is before `place`; give the place behind its `]` and the expression."""
    negated = text[place : place + 1] in {b"!", b"^"}
    place += negated
    found: set[int] = set()
    while True:
        part = _SET_PART.match(text, place)
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
