"""Whose mirror, whose state: two configs must not take one mirror for their own (design 2.3, `identity.json`)."""

import os
import time
from contextlib import suppress

from job.core.config.effective import Pair
from job.core.entry import STATE_FOLDER
from job.core.outcome import Refusal
from job.errors import Refused
from job.files import identity_file
from job.files.identity_file import DamagedIdentityError, Identity, Paths, read_identity, write_identity
from job.files.private import open_ours
from job.files.state_place import is_of
from job.files.trail import identity


def check_mirror(pair: Pair, mirror: int) -> None:
    """Refuse an open mirror that is recorded as that of another source. Nothing is written."""
    try:
        home = open_ours(STATE_FOLDER, mirror)
    except OSError:
        return  # it is not there yet, or the gate tells of it
    try:
        _recorded(pair, home)
    except OSError:
        return
    finally:
        os.close(home)


def settle_mirror(pair: Pair, home: int) -> Identity:
    """Give the identity of a locked mirror by its open `.truecopy`; one without any is this pair's from now on.

    Raises `Refused` and `OSError`.
    """
    found = _recorded(pair, home)
    if found is None:
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        found = Identity(os.urandom(16).hex(), pair.name, Paths.of(pair.source), Paths.of(pair.dest), made)
        write_identity(home, found)
    return found


def _recorded(pair: Pair, home: int) -> Identity | None:
    file = f"{pair.dest}/{STATE_FOLDER.decode('ascii')}/{identity_file.FILE_NAME}"
    try:
        found = read_identity(home)
    except DamagedIdentityError as error:
        raise Refused(
            Refusal.STATE_UNUSABLE,
            f"{file} cannot be used: {error}",
            hint=f"If {pair.dest} is the mirror of {pair.source}, delete this file; it is written again.",
        ) from None
    if found is not None and not found.source.matches(Paths.of(pair.source)):
        raise Refused(
            Refusal.MIRROR_OTHER_SOURCE,
            f"{pair.dest} is the mirror of {found.source.written} (pair {found.pair}, since {found.made}), "
            f"not of {pair.source}",
            hint=f"Give this pair another mirror. If the source was moved, or {pair.dest} is to be the mirror of "
            f"{pair.source} from now on, delete {file}.",
        )
    return found


def check_state(pair: Pair, state: int) -> Identity | None:
    """Give the identity of an open, locked state folder below a `state_dir`. Raises `Refused` and `OSError`."""
    try:
        found = read_identity(state)
    except DamagedIdentityError as error:
        raise unusable_state(pair, error) from None
    if found is not None and not is_of(found, pair):
        raise Refused(
            Refusal.STATE_UNUSABLE,
            f"another instance just took the state folder for {found.source.written}",
            hint="Run it again: this pair then gets a state folder of its own.",
        )
    return found


def unusable_state(pair: Pair, error: DamagedIdentityError) -> Refused:
    """Refuse a state folder of which nobody can tell whose it is."""
    return Refused(
        Refusal.STATE_UNUSABLE,
        f"{identity_file.FILE_NAME} in the state folder of {pair.name} cannot be used: {error}",
        hint="Delete that file if the folder is this pair's; it is written again.",
    )


def settle_state(state: int, found: Identity | None, mirror: int, mirror_identity: Identity) -> None:
    """Record whose a state folder below a `state_dir` is, and of which mirror, where that is not recorded yet."""
    wanted = mirror_identity._replace(mirror_root=identity(mirror))
    if found is None or (found.mirror_id, found.mirror_root) != (wanted.mirror_id, wanted.mirror_root):
        write_identity(state, wanted)


def keep_times(mirror: int, before: os.stat_result) -> None:
    """Give a mirror's root the times back that it had before our own folder was made in it."""
    with suppress(OSError):
        os.utime(mirror, ns=(before.st_atime_ns, before.st_mtime_ns))
