"""Brevity: no line of a log is longer than a page. What is too long is shortened in the middle. Pure.

Where something is left out stand its whole length and the first digits of its SHA-256, so that a line can be matched
to a file all the same: `printf %s PATH | sha256sum`.
"""

import base64
from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate

from job.core.entry import printable

LONGEST_LINE = 4096
"""Bytes of a line, with its end: the page of a terminal, a pipe and most log collectors."""
LIMITS = (1024, 512, 256, 128, 64, 32, 16)
"""Characters of a value that are tried one after the other until the line fits; bytes of a path."""
LONGEST_VALUE = LIMITS[0]
_DIGITS = 16


def shortened(text: str, longest: int) -> str:
    """Shorten a printable text, if it is too long."""
    if len(text) <= longest:
        return text
    mark = _mark(len(text), "characters", text.encode("utf-8", "surrogateescape"))
    return f"{text[: longest // 2]}{mark}{text[-(longest // 2) :]}"


def several(texts: Sequence[str], longest: int) -> list[str]:
    """Shorten a list of printable texts: each of them, and then the list in its middle, if it is too long."""
    short = [shortened(text, longest) for text in texts]
    if sum(map(len, short)) <= 2 * longest:
        return short
    first = sum(1 for size in accumulate(map(len, short)) if size <= longest)
    last = sum(1 for size in accumulate(map(len, reversed(short))) if size <= longest)
    left_out = len(short) - first - last
    return [*short[:first], f"... {left_out} more ...", *short[len(short) - last :]] if left_out > 0 else short


def printable_path(path: bytes, longest: int) -> tuple[str, str | None]:
    """Give a path as it is shown, and in base64 where what is shown does not tell its bytes; both shortened if needed.

    What is left out of a long path is not made printable first: that takes long where nothing in it is.
    """
    if len(path) <= longest:
        shown = printable(path)
        return shown, None if shown.encode() == path else _base64(path)
    head, tail = _whole_characters(path[: longest // 2], path[-(longest // 2) :])
    mark = _mark(len(path), "bytes", path)
    encoded = None if _is_printable(path) else f"{_base64(head)}{mark}{_base64(tail)}"
    return f"{printable(head)}{mark}{printable(tail)}", encoded


def _mark(size: int, unit: str, content: bytes) -> str:
    return f"...[{size} {unit}, sha256 {sha256(content).hexdigest()[:_DIGITS]}]..."


def _base64(path: bytes) -> str:
    return base64.b64encode(path).decode("ascii")


def _is_printable(path: bytes) -> bool:
    try:
        return path.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _whole_characters(head: bytes, tail: bytes) -> tuple[bytes, bytes]:
    """Leave out the parts of characters, of UTF-8, that the cuts left."""
    end = len(head)
    while end > len(head) - 4 and end and head[end - 1] & 0xC0 == 0x80:  # noqa: PLR2004  # a character has four bytes
        end -= 1
    begun = end and head[end - 1] >= 0xC0  # noqa: PLR2004  # the first byte of a character
    if begun:
        try:
            head[end - 1 :].decode()
        except UnicodeDecodeError:
            head = head[: end - 1]
    start = 0
    while start < min(3, len(tail)) and tail[start] & 0xC0 == 0x80:  # noqa: PLR2004
        start += 1
    return head, tail[start:]
