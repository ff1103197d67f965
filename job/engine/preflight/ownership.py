"""Check by `identity.json` that two configurations do not use one mirror or one state folder (invariant 6)."""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress

from job.config.settings import Pair
from job.core.entry import STATE_FOLDER, printable
from job.core.outcome import Refusal
from job.errors import Refused
from job.fs.dircursor import closing_fd, identity
from job.fs.large_dir import name_exists
from job.fs.listing import scan
from job.fs.own_files import ForeignOwnerError, open_own_folder, replace_file
from job.store.pair_records import (
    IDENTITY_FILE,
    DamagedIdentityError,
    PairIdentity,
    PairRecords,
    ResolvedPath,
    read_identity,
    write_identity,
)

_OTHERS = 0o077


def check_mirror(pair: Pair, mirror: int) -> None:
    """Refuse the open mirror of another source, or one whose `.truecopy` is another user's. Nothing is written."""
    try:
        mirror_state = open_own_folder(STATE_FOLDER, mirror)
    except FileNotFoundError:
        _check_not_renamed(pair, mirror)
        return
    except ForeignOwnerError as error:
        raise _foreign_state(pair, mirror, error) from None
    except OSError:
        return  # the preflight reports it when it opens the state
    with closing_fd(mirror_state), suppress(OSError):
        _read_mirror_identity(pair, mirror_state)


def missing_state(pair: Pair, mirror: int, records: PairRecords) -> str:
    """Describe the missing `.truecopy` of an open mirror that must have had one; empty otherwise."""
    if name_exists(mirror, STATE_FOLDER):
        return ""
    mirror_record = records.mirror_record(pair.dest)
    if mirror_record is None:
        return ""
    since = f" (known since {mirror_record.since})" if mirror_record.since else ""
    return (
        f"{_state_path(pair)} does not exist, although the mirror was used before{since}: what was kept in it is gone"
    )


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


def identify_mirror(pair: Pair, mirror_state: int) -> PairIdentity:
    """Return the identity in the open `.truecopy` of a locked mirror; write the pair's own if there is none.

    Raises `Refused` and `OSError`.
    """
    found = _read_mirror_identity(pair, mirror_state)
    if found is None:
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        found = PairIdentity(
            os.urandom(16).hex(), pair.name, ResolvedPath.of(pair.source), ResolvedPath.of(pair.dest), made
        )
        write_identity(mirror_state, found)
    return found


def _read_mirror_identity(pair: Pair, mirror_state: int) -> PairIdentity | None:
    file = f"{_state_path(pair)}/{IDENTITY_FILE}"
    try:
        found = read_identity(mirror_state)
    except DamagedIdentityError as error:
        message = f"{file} cannot be used: {error}"
        hint = f"If {pair.dest} is the mirror of {pair.source}, delete this file; it is written again."
        raise Refused(Refusal.STATE_UNUSABLE, message, hint=hint) from None
    if found is not None and not found.source.matches(ResolvedPath.of(pair.source)):
        raise Refused(
            Refusal.MIRROR_OTHER_SOURCE,
            f"{pair.dest} is the mirror of {found.source.written} (pair {found.pair}, since {found.made}), "
            f"not of {pair.source}",
            hint=f"Give this pair another mirror. If the source was moved, or {pair.dest} is to be the mirror of "
            f"{pair.source} from now on, delete {file}.",
        )
    return found


def check_state(pair: Pair, state: int) -> PairIdentity | None:
    """Return the identity of an open, locked state folder below a `state_dir`. Raises `Refused` and `OSError`."""
    try:
        found = read_identity(state)
    except DamagedIdentityError as error:
        raise unusable_state(pair, error) from None
    if found is not None and not found.is_of(ResolvedPath.of(pair.source), ResolvedPath.of(pair.dest)):
        message = f"another instance just took the state folder for {found.source.written}"
        hint = "Run it again: this pair then gets a state folder of its own."
        raise Refused(Refusal.STATE_UNUSABLE, message, hint=hint)
    return found


def unusable_state(pair: Pair, error: DamagedIdentityError) -> Refused:
    """Refuse a state folder whose owner cannot be read."""
    return Refused(
        Refusal.STATE_UNUSABLE,
        f"{IDENTITY_FILE} in the state folder of {pair.name} cannot be used: {error}",
        hint="Delete that file if the folder is this pair's; it is written again.",
    )


def record_identity(state: int, found: PairIdentity | None, mirror: int, mirror_identity: PairIdentity) -> None:
    """Record the pair and mirror of a state folder below a `state_dir`, unless they are recorded already."""
    wanted = mirror_identity._replace(mirror_root=identity(mirror))
    if found is None or (found.mirror_id, found.mirror_root) != (wanted.mirror_id, wanted.mirror_root):
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
