"""Check that the `.truecopy` of a mirror is where it was and ours, and that a state folder is the mirror's."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from job.config.settings import Pair
from job.core.entry import STATE_FOLDER, printable
from job.core.outcome import Refusal
from job.errors import Refused
from job.fs.dircursor import closing_fd
from job.fs.listing import scan
from job.fs.own_files import ForeignOwnerError, open_own_folder, replace_file
from job.store.pair_records import (
    IDENTITY_FILE,
    DamagedIdentityError,
    PairIdentity,
    ResolvedPath,
    read_identity,
    write_identity,
)

_OTHERS = 0o077


def check_mirror(pair: Pair, mirror: int) -> None:
    """Refuse an open mirror whose `.truecopy` was renamed, or is another user's. Nothing is written."""
    try:
        os.close(open_own_folder(STATE_FOLDER, mirror))
    except FileNotFoundError:
        _check_not_renamed(pair, mirror)
    except ForeignOwnerError as error:
        raise _foreign_state(pair, mirror, error) from None
    except OSError:
        return  # the preflight reports it when it opens the state


def _check_not_renamed(pair: Pair, mirror: int) -> None:
    for name in _private_folders(mirror):
        if _is_state_of(pair, name, mirror):
            shown = f"{pair.dest}/{printable(name)}"
            message = f"{_state_path(pair)} does not exist: it was renamed to {shown}"
            hint = f"Rename it again (mv {shown} {_state_path(pair)}), and look who may write to {pair.dest}."
            raise Refused(Refusal.STATE_UNUSABLE, message, hint=hint)


def _private_folders(mirror: int) -> Iterator[bytes]:
    """Yield the names of own folders in an open mirror that are closed to others, as `.truecopy` is."""
    with suppress(OSError), scan(mirror) as found:
        for item in found:
            with suppress(OSError):
                if not item.is_dir(follow_symlinks=False):
                    continue
                seen = item.stat(follow_symlinks=False)
                if seen.st_uid in {os.geteuid(), 0} and not stat.S_IMODE(seen.st_mode) & _OTHERS:
                    yield os.fsencode(item.name)


def _is_state_of(pair: Pair, name: bytes, mirror: int) -> bool:
    """Return whether a folder in an open mirror has the identity of this mirror's `.truecopy`."""
    try:
        with closing_fd(open_own_folder(name, mirror)) as folder:
            found = read_identity(folder)
    except (OSError, DamagedIdentityError):
        return False
    return found is not None and found.source.matches(ResolvedPath.of(pair.source))


def _foreign_state(pair: Pair, mirror: int, error: ForeignOwnerError) -> Refused:
    where = next((name for name in _private_folders(mirror) if _is_state_of(pair, name, mirror)), None)
    move = f"mv {_state_path(pair)} {pair.dest}.found"
    back = f"move back Truecopy's own (mv {pair.dest}/{printable(where)} {_state_path(pair)})" if where else ""
    return Refused(
        Refusal.STATE_UNUSABLE,
        f"{_state_path(pair)} belongs to user {error.owner}; it must belong to {error.expected}",
        hint=f"Look who made it and who may write to {pair.dest}; move it away ({move})"
        + (f" and {back}." if back else ", or run Truecopy as its owner."),
    )


def _state_path(pair: Pair) -> str:
    return f"{pair.dest}/{STATE_FOLDER.decode('ascii')}"


def check_state(pair: Pair, state: int, mirror_id: str) -> None:
    """Refuse an open, locked state folder below a `state_dir` that another mirror has. Raises `OSError`, too."""
    try:
        found = read_identity(state)
    except DamagedIdentityError as error:
        raise unusable_state(pair, error) from None
    if found is not None and found.mirror_id != mirror_id:
        message = f"another instance just took the state folder for {found.source.written}"
        hint = "Run it again: this pair then gets a state folder of its own."
        raise Refused(Refusal.STATE_UNUSABLE, message, hint=hint)


def unusable_state(pair: Pair, error: DamagedIdentityError) -> Refused:
    """Refuse a state folder whose owner cannot be read."""
    return Refused(
        Refusal.STATE_UNUSABLE,
        f"{IDENTITY_FILE} in the state folder of {pair.name} cannot be used: {error}",
        hint="Delete that file if the folder is this pair's; it is written again.",
    )


def record_state(pair: Pair, state: int, mirror: PairIdentity) -> None:
    """Record whose a state folder below a `state_dir` is, unless that is recorded already. Raises `OSError`."""
    try:
        found = read_identity(state)
    except DamagedIdentityError:
        found = None
    wanted = mirror._replace(
        source=ResolvedPath.of(pair.source), mirror=ResolvedPath.of(pair.dest), pair=pair.name, cycle=None
    )
    if found is None or found._replace(pair=pair.name) != wanted:
        write_identity(state, wanted)


_README = """\
This folder belongs to Truecopy, which keeps {mirror} as a mirror of {source}.

The mirror is plain files: to restore, copy them back with `cp -a` or any file manager. Nothing here is needed for that.
index.sqlite3 remembers what was copied, so that unchanged files need not be read again; if it is lost it is rebuilt.
history.sqlite3 holds counters. lock keeps two instances apart. Nothing here is safe to edit while Truecopy runs.
"""


def write_readme(state: int, pair: Pair) -> None:
    """Write the README of a state folder. Raises `OSError`."""
    text = _README.format(source=pair.source, mirror=pair.dest)
    replace_file(state, b"README.txt", text.encode("utf-8", "surrogateescape"))
