"""The Landlock sandbox: work on a pair in a thread from which the kernel takes most rights to files (landlock(7)).

A sandbox cannot be left, and the next pair needs other folders: so it is applied to one thread, which ends with its
pair, and to the workers that this thread starts. Meanwhile the main thread passes on the events: logs, metrics, history
and heartbeat are written outside the sandbox. Events about entries are passed on in batches.

Landlock governs opening, making, renaming and removing; not modes, owners, times and attributes, nor open descriptors.
Its calls have no wrapper in the C library and are called by number. The paths of code, libraries and kernel files that
Python may need later are granted before: a missing one would break a backup, and none holds user data.
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
from job.events.service import EntryEvent, Event, Listener
from job.fs.private_folders import ScratchFolder
from job.system.hang import WorkThread

_CODE = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/nix/store", "/gnu/store")
_LOADER = ("/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime")
_KERNEL = ("/proc", "/sys", "/dev/zero", "/dev/random", "/dev/urandom")


def system_paths() -> list[str]:
    """List the folders and files that are read; some may not exist, none is the whole file system."""
    # Where a variable or a link puts libraries elsewhere, those in use show the place.
    candidates = [*_CODE, *_LOADER, *_KERNEL, *_python_paths(), *_loaded_libraries()]
    return [path for path in dict.fromkeys(map(os.path.abspath, filter(None, candidates))) if path != "/"]


def _python_paths() -> Iterator[str]:
    yield from (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)
    # A fresh interpreter runs the program's first file again.
    yield from (sys.executable, getattr(sys.modules["__main__"], "__file__", None) or "")
    yield os.path.dirname(os.path.dirname(__file__))
    yield from sys.path


def _loaded_libraries() -> Iterator[str]:
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
    with ExitStack() as stack:
        attributes = struct.pack("=Q", handled)
        ruleset = _call(0, attributes, len(attributes), 0)
        stack.callback(os.close, ruleset)
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


_Result = TypeVar("_Result")
_POLL_SECONDS = 0.5
_MOST_EVENTS = 1000


class Sandbox:
    """Runs work in a sandbox, as far as the system offers it and the configuration wants it."""

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
            _set_sqlite_temp("")  # the number of the folder may be that of another one from now on
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
        """Leave this thread the right to read an open source and to change the other two, and hardly any other.

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
    """Have SQLite put there what does not fit in memory, and nowhere where others have files; give the open folder.

    That is the state folder where there is no folder for temporary files.
    """
    folder = state
    with suppress(OSError):
        folder = scratch.folder()
    _set_sqlite_temp(f"/proc/self/fd/{folder}")  # not by its path, where others may put another one
    return folder


def _set_sqlite_temp(folder: str) -> None:
    with closing(sqlite3.connect(":memory:")) as database, suppress(sqlite3.Error):
        # For all of this process; a thread has none of its own.
        database.execute(f"PRAGMA temp_store_directory = '{folder}'")


class _SandboxThread:
    """Does some work in a thread, while who listens does what has to be done outside; they take turns."""

    def __init__(self, work: Callable[[Listener], _Result]) -> None:
        self._work = work
        self._pending: list[Event] = []
        self._listener = _Turn()
        self._worker = _Turn()
        self._listener_error: Exception | None = None
        self._ended = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = WorkThread(target=self._run, name="truecopy-pair", daemon=True)

    def start(self) -> None:
        """Begin. Raises `RuntimeError` where no thread is to be had."""
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._work(self._emit)
            self._flush()
        except BaseException as error:  # noqa: BLE001  # it goes on where the work was asked for
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
        """Tell what is told until the work ends; give its result, or raise what it raised."""
        try:
            self._listen(emit)
        except BaseException:
            # A second Ctrl-C: the work may hang on a dead disk, and nobody is to wait for it or for its workers.
            atexit.register(_leave)
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
            except Exception as error:  # noqa: BLE001  # as if it had been raised over there
                self._listener_error = error
            self._worker.hand_over()


class _Turn:
    """Somebody's turn: waited for by one, given by the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.hand_over = self._lock.release

    def wait(self) -> None:
        """Wait for it. In the main thread signals are handled meanwhile.

        A signal that comes between the interpreter's last look and the wait would be handled after it, so it is no
        long one: the main thread of a busy machine may stand there for some time.
        """
        while not self._lock.acquire(timeout=_POLL_SECONDS):
            pass


def _leave() -> None:
    os._exit(Exit.INTERRUPTED)
