"""What this process may do, asked of the kernel without doing it: nothing is opened, so no access time moves.

A file server may still refuse, as NFS does to root.
"""

import os

from job.fs.dircursor import single


def may_read(name: bytes, folder: int) -> bool:
    """Tell whether a file in an open folder may be opened for reading. A link is not followed."""
    return os.access(single(name), os.R_OK, dir_fd=folder, effective_ids=True, follow_symlinks=False)


def may_write_in(folder: int) -> bool:
    """Tell whether names in an open folder may be made and replaced: its owner can always give the right to it."""
    if os.fstat(folder).st_uid == os.geteuid():
        return True
    return os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True)
