"""What a Python program reads of the system besides its work: code and libraries, and what the kernel tells.

It is asked for before a wall goes up (`system/landlock.py`), since a module may be imported, and a fresh interpreter
started, long after. Too much here is better than too little: what is missing breaks a backup, and nothing in it is
anybody's data.
"""

import os
import sys
from collections.abc import Iterator

_CODE = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/nix/store", "/gnu/store")
_LOADER = ("/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime")
_KERNEL = ("/proc", "/sys", "/dev/zero", "/dev/random", "/dev/urandom")


def folders() -> list[str]:
    """List the folders and files that are read; some may not exist, none is the whole file system."""
    # Where a variable or a link puts libraries elsewhere, those in use show the place.
    candidates = [*_CODE, *_LOADER, *_KERNEL, *_of_python(), *_in_memory()]
    return [path for path in dict.fromkeys(map(os.path.abspath, filter(None, candidates))) if path != "/"]


def _of_python() -> Iterator[str]:
    yield from (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)
    # A fresh interpreter runs the program's first file again.
    yield from (sys.executable, getattr(sys.modules["__main__"], "__file__", None) or "")
    yield os.path.dirname(os.path.dirname(__file__))
    yield from sys.path


def _in_memory() -> Iterator[str]:
    """Give the folders of the programs and libraries that are loaded."""
    try:
        with open("/proc/self/maps", "rb") as maps:
            lines = maps.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, rights, *_, place = line.split(maxsplit=5)
        if b"x" in rights and place.startswith(b"/"):
            yield os.path.dirname(os.fsdecode(place))
