"""Swap every name of one folder with that of another, again and again, as nobody: `python flipper.py FOLDER OTHER`."""

import ctypes
import os
import sys

_EXCHANGE = 2
_NOBODY = 65534


def main(one: str, other: str) -> None:
    """Swap until somebody ends it."""
    folders = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (one, other)]
    names = [os.fsencode(name) for name in os.listdir(one)]
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    swap = ctypes.CDLL(None, use_errno=True).renameat2
    begun = False
    while True:
        for name in names:
            if swap(folders[0], name, folders[1], name, _EXCHANGE):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        if not begun:
            sys.stdout.write("begun\n")
            sys.stdout.flush()
            begun = True


if __name__ == "__main__":
    main(*sys.argv[1:])
