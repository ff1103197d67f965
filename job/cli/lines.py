"""The lines of a command that may take long: printed as they come, above progress bars where there is a terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from job.outputs.progress import LineBars


class PlainLines:
    """Prints lines, without progress bars."""

    def notice(self, entries: int, count: int) -> None:
        """Show no progress."""

    def print(self, line: str) -> None:
        """Print one printable line."""
        click.echo(line)


@contextmanager
def shown_lines(name: str, expected: tuple[int, int], doing: str) -> "Iterator[PlainLines | LineBars]":
    """Return the printer of lines; on a terminal it shows progress bars, too.

    `expected` are entries and bytes, 0 for unknown; `doing` is what happens to them, in a word.
    """
    terminal = next((stream for stream in (sys.stdout, sys.stderr) if stream.isatty()), None)
    if terminal is None:
        yield PlainLines()
        return
    from job.outputs.progress import LineBars  # noqa: PLC0415  # rich is for terminals only, and slow to import

    with closing(LineBars(terminal, name, expected, sys.stdout, doing=doing, monotonic=time.monotonic)) as bars:
        yield bars
