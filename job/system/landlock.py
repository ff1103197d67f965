"""Wall a thread in: Landlock, by which Linux takes rights to files from who asks for it (landlock(7)).

What is taken stays taken, from this thread and from every process that it starts; the other threads keep theirs.
Landlock governs opening, making, naming, moving and removing. It does not govern modes, owners, times and attributes,
nor what is open already. The calls have no wrapper in any C library, so they are called by number.
"""

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Iterable
from contextlib import ExitStack

_CALLS_SINCE_5_13 = 444
"""landlock_create_ruleset; add_rule and restrict_self follow. New calls have one number for all machines since 2019."""
_MACHINES = frozenset(("x86_64", "aarch64", "riscv64", "loongarch64", "ppc64le", "s390x"))
_ASK_VERSION = 1
_BENEATH_PATH = 1
_NO_NEW_PRIVILEGES = 38

_LIBC = ctypes.CDLL(None, use_errno=True)


# What can be done below a folder, by Landlock's own bits; plain numbers, since an enumeration would slow every start.
EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_FOLDER = 1 << 3
REFER = 1 << 13
"""Move and link from one folder to another."""
TRUNCATE = 1 << 14
DEVICE_CONTROL = 1 << 15
_ALL = (1 << 16) - 1
"""These, and to make and remove things of each kind."""
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | DEVICE_CONTROL

READ = READ_FILE | READ_FOLDER
READ_AND_RUN = READ | EXECUTE
CHANGE = _ALL & ~EXECUTE & ~DEVICE_CONTROL
"""Everything that a backup does in its mirror, reading too; nothing that it keeps there is ever run."""

LEAST_ABI = 2
"""Linux 5.19: before it nobody behind a wall could move anything from one folder to another."""
_KNOWN_FROM = ((TRUNCATE, 3), (DEVICE_CONTROL, 5))


def abi() -> int:
    """Tell which version of Landlock the kernel has. Raises `OSError` where it has none, or nobody may use it."""
    if os.uname().machine not in _MACHINES or sys.maxsize <= 2**32:
        raise OSError(errno.ENOSYS, "not known on this machine")
    return _call(0, None, 0, _ASK_VERSION)


def restrict(granted: Iterable[tuple[int, int]]) -> None:
    """Take from this thread, for ever, every right that is not granted below one of these open files or folders.

    Raises `OSError`; nothing is taken then.
    """
    handled = _handled()
    with ExitStack() as doors:
        attributes = struct.pack("=Q", handled)
        ruleset = _call(0, attributes, len(attributes), 0)
        doors.callback(os.close, ruleset)
        for rights, descriptor in granted:
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            rule = struct.pack("=Qi", rights & handled & (_ALL if is_folder else _OF_FILES), descriptor)
            _call(1, ruleset, _BENEATH_PATH, rule, 0)
        # Who could get rights back by starting a program with more of them may not put up a wall; root may.
        _LIBC.prctl(_NO_NEW_PRIVILEGES, *map(ctypes.c_ulong, (1, 0, 0, 0)))
        _call(2, ruleset, 0)


def _handled() -> int:
    version = abi()
    if version < LEAST_ABI:
        raise OSError(errno.EOPNOTSUPP, f"version {version} is too old, {LEAST_ABI} is needed (Linux 5.19)")
    return _ALL & ~sum(right for right, known_from in _KNOWN_FROM if version < known_from)


def _call(which: int, *values: int | bytes | None) -> int:
    whole = [ctypes.c_long(value) if isinstance(value, int) else value for value in values]
    result = int(_LIBC.syscall(ctypes.c_long(_CALLS_SINCE_5_13 + which), *whole))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
