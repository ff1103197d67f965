"""Is the source there, whole and not empty? A disk that is not mounted looks like an empty folder (invariant 5)."""

import errno
import os
from contextlib import ExitStack
from typing import Protocol

from job.config.settings import Pair
from job.core.entry import NO_CONTENT
from job.core.outcome import Refusal, reason_text
from job.engine.preflight import first_use
from job.errors import Refused
from job.events.text import counted
from job.fs.dircursor import open_folder, single
from job.fs.listing import Glance


def check_complete(pair: Pair, source: int) -> None:
    """Refuse a source that lacks what `must_exist` names; no link is followed on the way. Raises `Refused`."""
    for path in pair.must_exist:
        try:
            lacks = not _exists(os.fsencode(path), source)
        except OSError as error:
            raise Refused(
                Refusal.SOURCE_UNREADABLE,
                f"{path} in the source {pair.source}, which must exist, cannot be looked at: {error.strerror}",
                hint="Give this user the right to read it; the mirror was left alone.",
            ) from None
        if lacks:
            raise Refused(
                Refusal.SOURCE_INCOMPLETE,
                f"the source {pair.source} lacks {path}, which must exist",
                hint="Check that its disk is mounted; if that is gone for good, remove it from must_exist.",
            )


def _exists(path: bytes, root: int) -> bool:
    *above, name = [part for part in path.split(b"/") if part not in {b"", b"."}]
    with ExitStack() as doors:
        folder = root
        try:
            for part in above:
                folder = open_folder(part, folder)
                doors.callback(os.close, folder)
            os.stat(single(name), dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link on the way
                return False
            raise
    return True


class Listed(Protocol):
    """What the check of the source needs."""

    def glance(self, path: bytes) -> Glance:
        """Look at one folder; raises `OSError`."""


def check_source(source: Listed, known: int, pair: Pair, mirror: int) -> Glance:
    """Refuse an empty source that was not empty before: a disk that is not mounted looks just like that.

    Gives what its root looks like. It was not empty if `known` files are in the index, or, since an index may be lost,
    if anything is in the mirror. A source that never had an entry is refused, too, unless that is allowed.
    Raises `Refused` (invariant 5).
    """
    try:
        seen = source.glance(b"")
    except OSError as error:
        raise Refused(
            Refusal.SOURCE_UNREADABLE,
            f"the source {pair.source} cannot be listed: {reason_text(error)}",
            hint="Give this user the right to read it; the mirror was left alone.",
        ) from None
    if seen.entries or seen.unreadable or not NO_CONTENT.issuperset(seen.folders):
        return seen
    if known or first_use.holds_content(mirror):
        files = counted(known, "file of it is", "files of it are") if known else "something is"
        raise Refused(
            Refusal.SOURCE_EMPTY,
            f"the source {pair.source} is empty, but {files} in the mirror",
            hint="Check that its disk is mounted; if it is meant to be empty, remove the pair from the config.",
        )
    if not pair.allow_empty:
        raise first_use.never_had_entry(pair)
    return seen


def check_still_there(seen: Glance, entries: int, folders: int, pair: Pair) -> None:
    """Refuse a source of which a look found nothing, if a moment before something was `seen` in it.

    `folders` counts the root, too. Raises `Refused`.
    """
    before = seen.entries + len(seen.folders)
    if before and not entries and folders <= 1:
        raise Refused(
            Refusal.SOURCE_UNREADABLE,
            f"the source {pair.source} was listed with {before} names and a moment later with none",
            hint="Check its disk or server: it answers with an empty folder. The mirror was left alone.",
        )
