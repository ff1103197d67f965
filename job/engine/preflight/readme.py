"""The note in a state folder, for whoever finds it."""

from job.config.settings import Pair
from job.fs.small_files import replace_file

_README = """\
This folder belongs to Truecopy, which keeps {mirror} as a mirror of {source}.

The mirror is plain files: to restore, copy them back with `cp -a` or any file manager. Nothing here is needed for that.
index.sqlite3 remembers what was copied, so that unchanged files need not be read again; if it is lost it is rebuilt.
history.sqlite3 holds counters. lock keeps two instances apart. Nothing here is safe to edit while Truecopy runs.
"""


def explain(state: int, pair: Pair) -> None:
    """Leave a note for whoever finds the folder. Raises `OSError`."""
    text = _README.format(source=pair.source, mirror=pair.dest)
    replace_file(state, b"README.txt", text.encode("utf-8", "surrogateescape"))
