"""Serve a file system in memory that behaves as network storage and other systems' disks do; a program of its own.

    python -m tests.fidelity.nas FOLDER '{"normalise": "NFD", "fold_case": true}'

It is mounted in the folder until it is unmounted, and gone then with all it holds.
"""

import json
import sys

from mfusepy import FUSE

from tests.fidelity.nature import Nature
from tests.fidelity.storage import Storage


def main(folder: str, nature: str) -> None:
    """Mount and serve. Nothing is cached by the kernel: another name of the same file shows at once what it is now."""
    FUSE(
        Storage(Nature(**json.loads(nature))),
        folder,
        foreground=True,
        nothreads=True,
        use_ino=True,
        entry_timeout=0,
        negative_timeout=0,
        attr_timeout=0,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
