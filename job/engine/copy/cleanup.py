"""Sweep temps that a killed run left, wherever they are: also in mirror folders that have left the source since."""

import os
from contextlib import closing, suppress

from job.core.entry import TEMP_PREFIX, Kind
from job.engine.context import Bench
from job.engine.preflight.claim import Claim
from job.fs.dircursor import Trail
from job.fs.large_dir import sweep_temps
from job.fs.listing import Found, list_entries


def sweep(bench: Bench, claim: Claim | None) -> None:
    """Remove temps from the folders noted as being worked on, with a claim on the mirror, so that nobody writes them.

    What cannot be swept now is no reason to fail: a folder that is still in the source is swept by its next visit, too.
    """
    with suppress(OSError):
        noted = bench.leftovers.noted()
        if not noted:
            return
        if claim is not None:
            claim()
        with closing(Trail(bench.mirror_root)) as trail:
            for path in dict.fromkeys(noted):
                with suppress(OSError, ValueError):  # the folder is gone, or the note is not ours
                    sweep_temps(trail.goto(path))
        bench.leftovers.clear_all()


def sweep_folder(folder: int) -> tuple[Found, bool]:
    """List an open mirror folder and remove the temps in it; True if there were any. Raises `OSError` or `Huge`."""
    found = list_entries(folder)
    temps = [each for each in found.entries if each.name.startswith(TEMP_PREFIX) and each.kind is not Kind.FOLDER]
    if not temps:
        return found, False
    for entry in temps:
        os.unlink(entry.name, dir_fd=folder)
    gone = {entry.name for entry in temps}
    return found._replace(entries=[entry for entry in found.entries if entry.name not in gone]), True
