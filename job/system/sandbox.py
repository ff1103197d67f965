"""The Landlock sandbox: work on a pair in a thread with few rights to files (landlock(7)).

A sandbox cannot be left, and the next pair needs other folders. So it applies to one thread, which ends with its pair,
and to the workers that this thread starts. The main thread passes on events, as outputs are written outside of it.

Landlock restricts opening, creating, renaming and removing; not modes, owners, times and attributes, nor open
descriptors. Its system calls have no wrapper in the C library and are called by number. Paths of code, libraries and
kernel files that Python may need later are granted too: a missing one would break a backup, and none holds user data.
"""

import atexit
import ctypes
import errno
import os
import sqlite3
import stat
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any, TypeVar

from job.config.settings import Landlock
from job.core.outcome import Refusal, reason_text
from job.errors import Exit, Refused
from job.events.base import EntryEvent, Event, Listener
from job.fs.private_folders import ScratchFolder
from job.system.hang_diagnosis import WorkThread

_CODE = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/nix/store", "/gnu/store")
_LOADER = ("/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime")
_KERNEL = ("/proc", "/sys", "/dev/zero", "/dev/random", "/dev/urandom")


def system_paths() -> list[str]:
    """List folders and files that Python reads; some may not exist, none is the root of the file system."""
    # Loaded libraries show locations set by a variable or a link.
    candidates = [*_CODE, *_LOADER, *_KERNEL, *_python_paths(), *_loaded_libraries()]
    return [path for path in dict.fromkeys(map(os.path.abspath, filter(None, candidates))) if path != "/"]


def _python_paths() -> Iterator[str]:
    yield from (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)
    # A spawned interpreter runs the main module again.
    yield from (sys.executable, getattr(sys.modules["__main__"], "__file__", None) or "")
    yield os.path.dirname(os.path.dirname(__file__))
    yield from sys.path


def _loaded_libraries() -> Iterator[str]:
    """Yield the folders of loaded programs and libraries."""
    try:
        with open("/proc/self/maps", "rb") as maps:
            lines = maps.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, rights, *_, place = line.split(maxsplit=5)
        if b"x" in rights and place.startswith(b"/"):
            yield os.path.dirname(os.fsdecode(place))


_CALLS_SINCE_5_13 = 444
"""landlock_create_ruleset; add_rule and restrict_self follow. Since 2019 new calls have one number on all machines."""
_MACHINES = frozenset(("x86_64", "aarch64", "riscv64", "loongarch64", "ppc64le", "s390x"))
_ASK_VERSION = 1
_BENEATH_PATH = 1
_NO_NEW_PRIVILEGES = 38

_LIBC = ctypes.CDLL(None, use_errno=True)


# Landlock's access rights; plain numbers, since an enum would slow every start.
EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_FOLDER = 1 << 3
TRUNCATE = 1 << 14
DEVICE_CONTROL = 1 << 15
_ALL = (1 << 16) - 1
"""These, and the rights to create and remove each type of entry."""
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | DEVICE_CONTROL

READ = READ_FILE | READ_FOLDER
READ_AND_RUN = READ | EXECUTE
CHANGE = _ALL & ~EXECUTE & ~DEVICE_CONTROL
"""All rights in a mirror, including reading, except execution."""

LEAST_ABI = 2
"""Linux 5.19: earlier versions forbid all renames between folders."""
_KNOWN_FROM = ((TRUNCATE, 3), (DEVICE_CONTROL, 5))


def abi() -> int:
    """Return the kernel's Landlock version. Raises `OSError` if Landlock is missing or disabled."""
    if os.uname().machine not in _MACHINES or sys.maxsize <= 2**32:
        raise OSError(errno.ENOSYS, "not known on this machine")
    return _call(0, None, 0, _ASK_VERSION)


def restrict(granted: Iterable[tuple[int, int]]) -> None:
    """Restrict this thread permanently to the rights granted below these open files and folders.

    Raises `OSError` without any restriction.
    """
    handled = _handled()
    with ExitStack() as stack:
        attributes = struct.pack("=Q", handled)
        ruleset = _call(0, attributes, len(attributes), 0)
        stack.callback(os.close, ruleset)
        for rights, descriptor in granted:
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            rule = struct.pack("=Qi", rights & handled & (_ALL if is_folder else _OF_FILES), descriptor)
            _call(1, ruleset, _BENEATH_PATH, rule, 0)
        # Without root the kernel requires no_new_privs, so that set-ID programs cannot regain rights.
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


_Result = TypeVar("_Result")
_POLL_SECONDS = 0.5
_MOST_EVENTS = 1000


class Sandbox:
    """Runs work in a sandbox if the system supports it and the configuration asks for it."""

    def __init__(self, wanted: Landlock, scratch: ScratchFolder, missing: Callable[[str], None]) -> None:
        """`missing` is called in the main thread with the reason why a wanted sandbox is not available."""
        self._wanted = wanted
        self._scratch = scratch
        self._missing = missing
        self._unavailable = "" if wanted == "off" else why_unavailable()
        self._why_not = ""
        self._sandboxed = False

    def run(self, work: Callable[[Listener], _Result], emit: Listener) -> _Result:
        """Run `work` where it can be restricted; it gets a listener that passes its events on to `emit`."""
        thread = self._start_thread(work)
        try:
            result: _Result = work(emit) if thread is None else thread.listen(emit)
        finally:
            _set_sqlite_temp("")  # the descriptor number may be reused now
        if self._why_not:
            self._missing(self._why_not)
        return result

    def _start_thread(self, work: Callable[[Listener], _Result]) -> "_SandboxThread | None":
        self._why_not = self._unavailable
        self._sandboxed = self._wanted != "off" and not self._unavailable
        if not self._sandboxed:
            return None
        thread = _SandboxThread(work)
        try:
            thread.start()
        except RuntimeError as error:
            self._sandboxed, self._why_not = False, str(error)
            return None
        return thread

    def restrict(self, source: int, mirror: int, state: int) -> None:
        """Restrict this thread to reading an open source and changing the open mirror and state folders.

        Raises `Refused` if the sandbox is required and not available.
        """
        scratch = _set_scratch_folder(self._scratch, state)
        if self._sandboxed:
            try:
                _apply_sandbox(source, (mirror, state, scratch))
            except OSError as error:
                self._why_not = reason_text(error)
        if self._why_not and self._wanted == "required":
            raise Refused(
                Refusal.SANDBOX_UNAVAILABLE,
                f"landlock is required and cannot be used: {self._why_not}",
                hint='It needs Linux 5.19 and a container that allows it; "auto" works without it where it has to.',
            )


def why_unavailable() -> str:
    """Return why Landlock is not available; empty if it is."""
    try:
        version = abi()
    except OSError as error:
        return f"this system does not offer Landlock: {reason_text(error)}"
    if version < LEAST_ABI:
        return f"this kernel has version {version} of Landlock, and {LEAST_ABI} is needed (Linux 5.19)"
    return ""


def _apply_sandbox(source: int, ours: tuple[int, int, int]) -> None:
    granted = [(READ, source), *((CHANGE, folder) for folder in ours)]
    with ExitStack() as stack:

        def grant(rights: int, opened: int) -> None:
            stack.callback(os.close, opened)
            granted.append((rights, opened))

        for path in system_paths():
            with suppress(OSError):
                grant(READ_AND_RUN, os.open(path, os.O_PATH | os.O_CLOEXEC))
        with suppress(OSError):
            null_device = os.open(os.devnull, os.O_PATH | os.O_CLOEXEC)
            grant(READ_FILE | WRITE_FILE, null_device)
        restrict(granted)


def _set_scratch_folder(scratch: ScratchFolder, state: int) -> int:
    """Set SQLite's temp folder to the scratch folder, or `state` if there is none; return it, open."""
    folder = state
    with suppress(OSError):
        folder = scratch.folder()
    _set_sqlite_temp(f"/proc/self/fd/{folder}")  # not by its path, which other users may replace
    return folder


def _set_sqlite_temp(folder: str) -> None:
    with closing(sqlite3.connect(":memory:")) as database, suppress(sqlite3.Error):
        # Set for the whole process; SQLite has no setting for a thread.
        database.execute(f"PRAGMA temp_store_directory = '{folder}'")


class _SandboxThread:
    """Runs work in a thread, and its events in the calling thread; the two take turns."""

    def __init__(self, work: Callable[[Listener], _Result]) -> None:
        self._work = work
        self._pending: list[Event] = []
        self._listener = Turn()
        self._worker = Turn()
        self._listener_error: Exception | None = None
        self._ended = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = WorkThread(target=self._run, name="truecopy-pair", daemon=True)

    def start(self) -> None:
        """Start the thread. Raises `RuntimeError` if that fails."""
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._work(self._emit)
            self._flush()
        except BaseException as error:  # noqa: BLE001  # raised again by `listen`
            self._error = error
        self._ended = True
        self._listener.hand_over()

    def _emit(self, event: Event) -> None:
        self._pending.append(event)
        if not isinstance(event, EntryEvent) or len(self._pending) >= _MOST_EVENTS:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._listener.hand_over()
            self._worker.wait()
            if self._listener_error is not None:
                raise self._listener_error

    def listen(self, emit: Listener) -> Any:
        """Pass events to `emit` until the work ends; return its result, or raise its exception."""
        try:
            self._listen(emit)
        except BaseException:
            # A second Ctrl-C: the work may hang on a dead disk, so exit without waiting for it or its workers.
            atexit.register(os._exit, Exit.INTERRUPTED)
            raise
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result

    def _listen(self, emit: Listener) -> None:
        while True:
            self._listener.wait()
            if self._ended:
                return
            events, self._pending = self._pending, []
            try:
                for event in events:
                    emit(event)
            except Exception as error:  # noqa: BLE001  # raised again in the work
                self._listener_error = error
            self._worker.hand_over()


class Turn:
    """A turn that one thread waits for and the other hands over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.hand_over = self._lock.release

    def wait(self) -> None:
        """Wait for the turn; the main thread handles signals meanwhile.

        A signal just before the wait starts is handled only after it, so each wait is short.
        """
        while not self._lock.acquire(timeout=_POLL_SECONDS):
            pass
