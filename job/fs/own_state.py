"""Tell what Truecopy itself made from what only has such a name.

A source holds it after a restore by `cp -a`, or where it is a mirror itself.
"""

import os
import re
from contextlib import suppress
from itertools import islice

from job.core.entry import TEMP_PREFIX
from job.fs.dircursor import open_folder, open_name
from job.fs.listing import scan

_README = b"README.txt"
_BEGINS = b"This folder belongs to Truecopy"
_OURS = re.compile(r"(versions|quarantine|sums|ledger\.jsonl|identity\.json|lease|lock)(-.*)?")
"""What lies in it where the state is elsewhere: all else comes with the note."""
_MOST = 1000
"""Names that are looked at: the state folder has a few dozen."""
_TEMP = re.compile(re.escape(TEMP_PREFIX) + rb"[0-9a-f]{8}-[0-9a-f]{1,16}")
_PROBE = re.compile(re.escape(TEMP_PREFIX) + rb"probe(-[0-9a-f]{8})?")


def is_own_temp(name: bytes, *, folder: bool) -> bool:
    """Tell whether a name is just as Truecopy gives it to a file that it writes, or a folder that it tries things in.

    Such a file had no name of its own yet, and may hold half a content.
    """
    return (_PROBE if folder else _TEMP).fullmatch(name) is not None


def is_own_state(name: bytes, parent: int, *, or_empty: bool) -> bool:
    """Tell whether a folder is a state folder of Truecopy: it has our note, or nothing but names that we give.

    False if it cannot be read: then nobody knows.
    """
    with suppress(OSError):
        folder = open_folder(name, parent)
        try:
            return _has_our_note(folder) or _has_our_names_only(folder, or_empty=or_empty)
        finally:
            os.close(folder)
    return False


def _has_our_note(folder: int) -> bool:
    with suppress(OSError):
        note = open_name(_README, folder)
        try:
            return os.read(note, len(_BEGINS)) == _BEGINS
        finally:
            os.close(note)
    return False


def _has_our_names_only(folder: int, *, or_empty: bool) -> bool:
    with scan(folder) as found:
        names = [item.name for item in islice(found, _MOST + 1)]
    return (or_empty or bool(names)) and len(names) <= _MOST and all(_OURS.fullmatch(name) for name in names)
