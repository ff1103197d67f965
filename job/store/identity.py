"""Which pair a folder of ours belongs to, as a small JSON file in it: `identity.json` (design 2.3).

In the `.truecopy` of a mirror it says which source the mirror is of; in a folder below `state_dir`, of which pair the
state is.
"""

import json
import os
from typing import Any, NamedTuple

from job.core.stored import UNUSABLE, number_of, text_of
from job.fs.mounts import resolved
from job.fs.private import NO_FILE, REMOVE_IT, described, open_file
from job.fs.small_files import replace_file

FILE_NAME = "identity.json"
FORMAT = 1
_MOST_BYTES = 64 << 10


class DamagedIdentityError(ValueError):
    """The file exists and cannot be read as an identity, or is of a newer format; the message says which."""


class Paths(NamedTuple):
    """A path as the config has it and with all links resolved; one of the two is enough to know it again.

    The resolved one may differ while a disk is not mounted, the written one after an edit of the config.
    """

    written: str
    resolved: str

    @classmethod
    def of(cls, path: str) -> "Paths":
        """Resolve a path, as far as it exists."""
        return cls(os.path.abspath(path), resolved(path))

    def matches(self, other: "Paths") -> bool:
        """Tell whether both are one path."""
        return self.written == other.written or self.resolved == other.resolved


class Identity(NamedTuple):
    """What the file says."""

    mirror_id: str
    """Random, 32 hexadecimal digits."""
    pair: str
    """The pair's name at that time."""
    source: Paths
    mirror: Paths
    made: str
    """RFC 3339, UTC."""
    mirror_root: tuple[int, int] = (0, 0)
    """Device and inode of the mirror's root when it was last seen to be this pair's; only below a `state_dir`."""


def read_identity(folder: int) -> Identity | None:
    """Read the identity of an open folder of ours; None if it has none. Raises `DamagedIdentityError` and `OSError`."""
    try:
        descriptor = open_file(FILE_NAME, folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
        what = described(FILE_NAME.encode("ascii"), folder)
        raise OSError(error.errno, f"{what} has the name of {FILE_NAME}{REMOVE_IT}") from None
    try:
        content = os.read(descriptor, _MOST_BYTES)
    finally:
        os.close(descriptor)
    try:
        return _identity_of(json.loads(content))
    except DamagedIdentityError:
        raise
    except UNUSABLE as error:
        raise DamagedIdentityError("it is damaged") from error


def _identity_of(found: dict[str, Any]) -> Identity:
    if number_of(found["format"]) != FORMAT:
        raise DamagedIdentityError(f"its format is {found['format']}, this Truecopy knows {FORMAT}")
    source, mirror = (Paths(text_of(found[side]), text_of(found[f"{side}_resolved"])) for side in ("source", "mirror"))
    device, inode = map(number_of, found.get("mirror_root", (0, 0)))
    mirror_id, pair, made = (text_of(found[key]) for key in ("mirror_id", "pair", "made"))
    return Identity(mirror_id, pair, source, mirror, made, (device, inode))


def write_identity(folder: int, identity: Identity) -> None:
    """Write it so that it survives a power cut. Raises `OSError`."""
    content: dict[str, object] = {
        "format": FORMAT,
        "mirror_id": identity.mirror_id,
        "pair": identity.pair,
        "source": identity.source.written,
        "source_resolved": identity.source.resolved,
        "mirror": identity.mirror.written,
        "mirror_resolved": identity.mirror.resolved,
        "made": identity.made,
    }
    if identity.mirror_root != (0, 0):
        content["mirror_root"] = identity.mirror_root
    replace_file(folder, FILE_NAME.encode("ascii"), json.dumps(content, indent=2).encode("ascii") + b"\n", synced=True)
