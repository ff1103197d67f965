"""Check that a source is complete and not empty, as an unmounted disk is, and create a new mirror (invariant 5).

A missing mirror is created below an existing folder only, after `identity.py` admitted it.
"""

import errno
import os
from contextlib import ExitStack, suppress

from job.config.settings import Pair
from job.core.entry import NO_CONTENT, STATE_FOLDER
from job.core.exclude import ExcludeRules
from job.core.outcome import Refusal, reason_text
from job.engine.preflight import overlap
from job.errors import Refused
from job.events.text import plural
from job.fs.dircursor import closing_fd, open_folder, single
from job.fs.listing import FolderScan, Unreadable, read_rows
from job.fs.mounts import resolve_path
from job.fs.own_files import fsync_folder
from job.fs.scanners import SourceScanner
from job.fs.trusted_path import open_trusted_parent, open_trusted_place


def is_missing(pair: Pair) -> bool:
    """Return whether the mirror does not exist; False if that is unknown."""
    try:
        os.close(open_trusted_place(pair.dest))
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def check_above(pair: Pair) -> None:
    """Refuse a missing mirror whose parent is missing, too, or that is a dangling link. Raises `Refused`."""
    try:
        above, name = open_trusted_parent(pair.dest)
    except OSError as error:
        first = error.filename or os.path.dirname(os.path.abspath(pair.dest))
        message = f"the mirror {pair.dest} does not exist, and neither does {first}"
        hint = "Check that its disk is mounted and the path is right; only the last folder of the path is made."
        raise Refused(Refusal.MIRROR_MISSING, message, hint=hint) from None
    try:
        target = os.readlink(name, dir_fd=above)
    except OSError:
        return
    finally:
        os.close(above)
    message = f"the mirror {pair.dest} is a link to {os.fsdecode(target)}, which does not exist"
    hint = "Check that its disk is mounted; if the link is right, make the folder that it leads to yourself."
    raise Refused(Refusal.MIRROR_MISSING, message, hint=hint)


def create_mirror(pair: Pair, state_dir: str | None, source: int) -> int:
    """Create and open the mirror of an open source, closed to others until it gets the source's mode. Raises `Refused`.

    Unless `allow_empty` is set, the source must have an entry in scope.
    """
    if not pair.allow_empty:
        _check_never_empty(pair, source)
    with ExitStack() as stack:
        above, name = open_trusted_parent(pair.dest)
        stack.callback(os.close, above)
        overlap.check_new_mirror(pair, source, above)
        if state_dir is not None and _lies_in(state_dir, pair.dest):
            message = f"the state folder {state_dir} lies in {pair.dest}"
            hint = "Set state_dir to a folder outside every source and mirror."
            raise Refused(Refusal.STATE_UNUSABLE, message, hint=hint)
        try:
            os.mkdir(name, 0o700, dir_fd=above)
            made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        except OSError as error:
            message = f"the mirror {pair.dest} does not exist and cannot be made: {error.strerror}"
            hint = f"Make the folder yourself, for user {os.geteuid()}, or run Truecopy as a user who may."
            raise Refused(Refusal.MIRROR_NOT_WRITABLE, message, hint=hint) from None
        # An unreadable parent cannot be synced; the sync of the file system covers it.
        with suppress(OSError):
            listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=above)
            with closing_fd(listed):
                fsync_folder(listed)
        return made


def open_placeholder(stack: ExitStack) -> int:
    """Return an empty read-only folder in place of a mirror that does not exist yet; the `stack` removes it."""
    from tempfile import mkdtemp  # noqa: PLC0415  # slow, and for `plan` and `compare` before the first cycle only

    path = mkdtemp(prefix="truecopy-empty-")
    stack.callback(_remove, path)
    return stack.enter_context(closing_fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)))


def _remove(folder: str) -> None:
    with suppress(OSError):
        os.rmdir(folder)


def never_had_entries(pair: Pair) -> Refused:
    """Return the refusal of a source that has no entry in scope and, as far as is known, never had one."""
    return Refused(
        Refusal.SOURCE_NEVER_HAD_ENTRY,
        f"the source {pair.source} holds nothing to copy and never did",
        hint="Check that its disk is mounted and the path is right, then put a file in it; "
        "if it may be empty, set allow_empty to true for this pair.",
    )


def holds_content(folder: int, rules: ExcludeRules | None = None) -> bool:
    """Return whether an open root has entries other than those excluded by default or by `rules`. Raises `OSError`."""
    chosen = rules or ExcludeRules(())
    # Opened anew: some file systems list a folder only once for each open descriptor.
    listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    with closing_fd(listed), os.scandir(listed) as found:
        return any(_is_content(item, chosen) for item in found)


def _check_never_empty(pair: Pair, source: int) -> None:
    try:
        found = holds_content(source, ExcludeRules(pair.exclude))
    except OSError as error:
        message = f"the source {pair.source} cannot be listed: {error.strerror}"
        hint = "Give this user the right to read it; nothing was made."
        raise Refused(Refusal.SOURCE_UNREADABLE, message, hint=hint) from None
    if not found:
        raise never_had_entries(pair)


def _is_content(item: "os.DirEntry[str]", rules: ExcludeRules) -> bool:
    unreadable: Unreadable = []
    rows = read_rows([item], unreadable)
    return bool(unreadable or [row for row in rules.in_scope(b"", rows) if row[0] != STATE_FOLDER])


def _lies_in(inner: str, outer: str) -> bool:
    shapes = os.path.abspath, resolve_path
    return any(os.path.commonpath((shape(inner), shape(outer))) == shape(outer) for shape in shapes)


def check_complete(pair: Pair, source: int) -> None:
    """Refuse a source that lacks a `must_exist` path; no link in it is followed. Raises `Refused`."""
    for path in pair.must_exist:
        try:
            lacks = not _exists(os.fsencode(path), source)
        except OSError as error:
            message = f"{path} in the source {pair.source}, which must exist, cannot be looked at: {error.strerror}"
            hint = "Give this user the right to read it; the mirror was left alone."
            raise Refused(Refusal.SOURCE_UNREADABLE, message, hint=hint) from None
        if lacks:
            message = f"the source {pair.source} lacks {path}, which must exist"
            hint = "Check that its disk is mounted; if that is gone for good, remove it from must_exist."
            raise Refused(Refusal.SOURCE_INCOMPLETE, message, hint=hint)


def _exists(path: bytes, root: int) -> bool:
    *above, name = [part for part in path.split(b"/") if part not in {b"", b"."}]
    with ExitStack() as stack:
        folder = root
        try:
            for part in above:
                folder = stack.enter_context(closing_fd(open_folder(part, folder)))
            os.stat(single(name), dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link in the path
                return False
            raise
    return True


def check_source(source: SourceScanner, known_files: int, pair: Pair, mirror: int) -> FolderScan:
    """Refuse an empty source that was not empty before, as it looks when its disk is not mounted (invariant 5).

    Returns the scan of its root. It was not empty if the index has `known_files`, or, since an index may be lost, if
    the mirror has content. A source that never had an entry needs `allow_empty`. Raises `Refused`.
    """
    try:
        seen = source.scan_folder(b"")
    except OSError as error:
        message = f"the source {pair.source} cannot be listed: {reason_text(error)}"
        hint = "Give this user the right to read it; the mirror was left alone."
        raise Refused(Refusal.SOURCE_UNREADABLE, message, hint=hint) from None
    if seen.entries or seen.unreadable or not NO_CONTENT.issuperset(seen.folders):
        return seen
    if known_files or holds_content(mirror):
        files = plural(known_files, "file of it is", "files of it are") if known_files else "something is"
        message = f"the source {pair.source} is empty, but {files} in the mirror"
        hint = "Check that its disk is mounted; if it is meant to be empty, remove the pair from the config."
        raise Refused(Refusal.SOURCE_EMPTY, message, hint=hint)
    if not pair.allow_empty:
        raise never_had_entries(pair)
    return seen


def check_still_there(seen: FolderScan, entries: int, folders: int, pair: Pair) -> None:
    """Refuse a source whose scan found nothing, although its root listing `seen` a moment before had entries.

    `folders` counts the root, too. Raises `Refused`.
    """
    before = seen.entries + len(seen.folders)
    if before and not entries and folders <= 1:
        message = f"the source {pair.source} was listed with {before} names and a moment later with none"
        hint = "Check its disk or server: it answers with an empty folder. The mirror was left alone."
        raise Refused(Refusal.SOURCE_UNREADABLE, message, hint=hint)
