"""What a killed run left of the versions: links without their renames, and names that were taken and not given.

The temp journal has the folders of versions that links were made in, and, for a file system without hard links, each
entry that was to be moved and the temp that was to take its name.
"""

import os
from contextlib import closing, suppress

from job.fs.dircursor import DirCursor, single
from job.fs.large_dir import is_temp_name, name_exists, names_in
from job.fs.versions import place_of

_INTENT = b"//"
"""Separates the path of a version from what takes its place; no path has two slashes in a row."""


def intent_to_replace(place: bytes, temp: bytes, inode: int) -> bytes:
    """Return an entry of the temp journal: an entry is to be moved to the place, and a temp, to take its name."""
    return b"%s%s%s/%x" % (place, _INTENT, temp, inode)


def is_intent(noted: bytes) -> bool:
    """Return whether an entry of the temp journal is one of `intent_to_replace`."""
    return _INTENT in noted


def fulfil(intent: bytes, mirror: int) -> None:
    """Give a name, which a killed run took from its entry, to the temp that was to have it, or back to that entry.

    Raises `OSError`, and `ValueError` for a foreign entry.
    """
    place, _, rest = intent.partition(_INTENT)
    temp, _, inode = rest.rpartition(b"/")
    above, _, name = place_of(place)[1].rpartition(b"/")
    if not is_temp_name(single(temp)):
        raise ValueError(f"not a temp: {temp!r}")
    with closing(DirCursor(mirror)) as versions, closing(DirCursor(mirror)) as mirrors:
        folder = mirrors.goto(above)
        if name_exists(folder, name):
            return
        with suppress(FileNotFoundError):
            if os.stat(temp, dir_fd=folder, follow_symlinks=False).st_ino == int(inode, 16):
                os.rename(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
                return
        os.rename(name, name, src_dir_fd=versions.goto(place.rpartition(b"/")[0]), dst_dir_fd=folder)


def sweep_versions(path: bytes, mirror: int) -> None:
    """Unlink versions in the folder at `path` that are still entries of the mirror: a run was killed before a rename.

    Raises `OSError`, and `ValueError` if it is not the path of a folder of versions.
    """
    _, above = place_of(path)
    with closing(DirCursor(mirror)) as versions, closing(DirCursor(mirror)) as mirrors:
        place, folder = versions.goto(path), mirrors.goto(above)
        for names in names_in(place):
            for name in names:
                with suppress(FileNotFoundError):
                    seen = os.stat(name, dir_fd=place, follow_symlinks=False)
                    live = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    if os.path.samestat(seen, live):
                        os.unlink(name, dir_fd=place)
