"""Gather what is known of one path of a pair, and what the next cycle would do with it; nothing is changed."""

import os
import time
from contextlib import ExitStack, closing
from typing import NamedTuple

from job.app.pair_setup import history_of
from job.app.preview_setup import open_preview
from job.app.restore_setup import contents_of, open_kept
from job.config.settings import Config, Pair
from job.core.counts import FailedEntry
from job.core.entry import Entry, Kind, is_reserved, join
from job.core.exclude import deciding_pattern
from job.core.outcome import reason_text
from job.engine.dry_run import Planned, preview
from job.engine.preflight.open_pair import open_roots
from job.engine.restore.kept import Content
from job.errors import Refused
from job.fs.dircursor import DirCursor, closing_fd
from job.fs.listing import entry_of
from job.fs.trusted_path import open_trusted_folder
from job.store.memory import Memory

_OF_WHOLE_FOLDERS = {"fail", "leave_out", "set_aside"}


class Rule(NamedTuple):
    """The pattern that decides about an entry."""

    pattern: str
    excludes: bool
    path: bytes
    """The entry that it matches: the entry itself, or a folder above it."""


class Explanation(NamedTuple):
    """What is known of one path."""

    path: bytes
    source: Entry | None
    """None if the source does not have it."""
    source_trouble: str
    """Why that is unknown; empty if it is known."""
    rule: Rule | None
    """None if no pattern matches."""
    is_reserved: bool
    contents: list[Content]
    """All that is kept of it, in the order in which it stood."""
    mirror_trouble: str
    """Why that is unknown; empty if it is known."""
    failure: FailedEntry | None
    """The failure of the last cycle."""
    planned: list[Planned]
    """What the next cycle would do with it, or with all of a folder above it."""
    below: int
    """The number of entries below it that the next cycle would work on."""
    refusal: Refused | None
    """Why the next cycle would be refused."""


def explain(config: Config, pair: Pair, path: bytes, memory: Memory) -> Explanation:
    """Gather what is known of a path, which is not that of the root."""
    source, source_trouble = _source_entry(pair, path)
    rule = _rule(pair, path, is_folder=source is not None and source.kind is Kind.FOLDER)
    contents, mirror_trouble = _contents(config, pair, path)
    history = history_of(config, pair, memory, failed=lambda _, __: None).read()
    failure = next((each for each in history.failing if each.path == path or _is_above(each.path, path)), None)
    planned, below, refusal = _planned(config, pair, path, memory)
    return Explanation(
        path=path,
        source=source,
        source_trouble=source_trouble,
        rule=rule,
        is_reserved=is_reserved(path),
        contents=contents,
        mirror_trouble=mirror_trouble,
        failure=failure,
        planned=planned,
        below=below,
        refusal=refusal,
    )


def _is_above(folder: bytes, path: bytes) -> bool:
    return not folder or path.startswith(folder + b"/")


def _source_entry(pair: Pair, path: bytes) -> tuple[Entry | None, str]:
    above, _, name = path.rpartition(b"/")
    try:
        with closing_fd(open_trusted_folder(pair.source)) as root, closing(DirCursor(root)) as cursor:
            return entry_of(name, os.stat(name, dir_fd=cursor.goto(above), follow_symlinks=False)), ""
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except OSError as error:
        return None, reason_text(error)


def _rule(pair: Pair, path: bytes, *, is_folder: bool) -> Rule | None:
    """Return the pattern that excludes a folder above a path, else the one that decides about the path."""
    at = b""
    *above, name = path.split(b"/")
    for each in above:
        at = join(at, each)
        found = deciding_pattern(pair.exclude, at, folder=True)
        if found is not None and found[1]:
            return Rule(*found, at)
    found = deciding_pattern(pair.exclude, join(at, name), folder=is_folder)
    return None if found is None else Rule(*found, path)


def _contents(config: Config, pair: Pair, path: bytes) -> tuple[list[Content], str]:
    try:
        with open_kept(config, pair) as (_, kept):
            return contents_of(kept, path), ""
    except Refused as error:
        return [], error.message


def _planned(config: Config, pair: Pair, path: bytes, memory: Memory) -> tuple[list[Planned], int, Refused | None]:
    found: list[Planned] = []
    below = 0
    try:
        with ExitStack() as tidy:
            roots = tidy.enter_context(open_roots(pair, config.state_dir, memory))
            view = tidy.enter_context(open_preview(config, pair, *roots))
            for step in preview(view, time.time(), lambda _: None):
                if step.path == path or (step.action in _OF_WHOLE_FOLDERS and _is_above(step.path, path)):
                    found.append(step)
                else:
                    below += step.path.startswith(path + b"/")
    except Refused as error:
        return [], 0, error
    return found, below, None
