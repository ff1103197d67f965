"""A lease on a mirror that other machines may access, where a kernel lock excludes only processes of this machine.

The lease is a file that its owner renews every few seconds and removes at the end. A lease is taken over only if it was
not renewed for minutes and does not change while it is watched. Its age is its mtime compared with that of a new file
on the same file system, so that clocks of two machines are never compared.
"""

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import NamedTuple

from job.core.outcome import reason_text
from job.errors import Busy, Stopped
from job.fs.dircursor import closing_fd
from job.fs.own_files import create, open_own_file, replace_file, write_all
from job.locking import lock
from job.system.hang_diagnosis import ForkSafeThread

NAME = b"lease"
_HINT = "Wait for it to end. A lease that nobody renews for {minutes:.0f} minutes is taken over by itself."
_TRIES = 10
_POLL_SECONDS = 0.1
_MAX_FUTURE_SECONDS = 60.0
"""The time of a lease further in the future is ignored."""


class LeaseTiming(NamedTuple):
    """Intervals of a lease, in seconds."""

    renewed_every: float = 2.0
    abandoned_after: float = 300.0
    """A younger lease is in use."""
    watched_for: float = 6.0
    """How long an old lease is watched for a renewal before it is taken over, and for a rival afterwards."""


class _LeaseState(NamedTuple):
    record: bytes
    mtime_ns: int


class Lease:
    """A lease of this process. Use it with `contextlib.closing`."""

    def __init__(self, folder: int, record: dict[str, str | int | float], timing: LeaseTiming, left_by: str) -> None:
        """Start renewing the lease in the open `folder`, which must stay open until `close`."""
        self.left_by = left_by
        """Description of the previous owner of a lease that was taken over; empty otherwise."""
        self._folder = folder
        self._record = record
        self._timing = timing
        self._beats = 0
        self._renewed = time.monotonic()
        self._lost = ""
        self._ended = threading.Event()
        self._thread = ForkSafeThread(target=self._renew_until_closed, name="truecopy-lease", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._remove()
            raise OSError(errno.EAGAIN, reason_text(error)) from error

    def why_lost(self) -> str:
        """Return why the lease was lost; empty while it is held."""
        silent = time.monotonic() - self._renewed
        if not self._lost and silent > self._timing.abandoned_after / 2:
            return f"it could not be renewed for {silent:.0f} seconds"
        if not self._lost and not self._is_ours():
            self._lost = "it was taken over or removed"
        return self._lost

    def _is_ours(self) -> bool:
        try:
            return self._made(_read_lease(self._folder).record)
        except OSError as error:
            return error.errno not in {errno.ENOENT, errno.ELOOP, errno.EINVAL}  # the work reports lasting errors

    def _made(self, record: bytes) -> bool:
        return lock.parse_holder(record).get("token") == self._record["token"]

    def _renew_until_closed(self) -> None:
        while not self._ended.wait(self._timing.renewed_every):
            with suppress(OSError):  # tried again; `why_lost` reports a long failure
                self._renew()

    def _renew(self) -> None:
        with closing_fd(open_own_file(NAME, self._folder, os.O_RDWR)) as descriptor:
            # If the file is replaced now, the write goes to the old one.
            if not self._made(os.pread(descriptor, lock.MOST_HOLDER_BYTES, 0)):
                self._lost = "somebody else took it over"
                return
            self._beats += 1
            os.pwrite(descriptor, _content(self._record, self._beats), 0)
            os.fsync(descriptor)
            self._renewed = time.monotonic()

    def close(self) -> None:
        """Release the lease, so that no instance has to wait until it is abandoned."""
        self._ended.set()
        self._thread.join()
        self._remove()

    def _remove(self) -> None:
        with suppress(OSError):
            if not self._lost and self._made(_read_lease(self._folder).record):
                os.unlink(NAME, dir_fd=self._folder)


def acquire(
    folder: int, name: str, started: float, stop: Callable[[], bool], timing: LeaseTiming | None = None
) -> Lease:
    """Take the lease in an open folder, or raise `Busy` with its holder. The caller holds the kernel lock there.

    Takes some seconds if an old lease exists. Raises `OSError`, and `Stopped`.
    """
    timing = timing or LeaseTiming()
    device = os.fstat(folder).st_dev
    record = lock.holder_record(started) | {"device": device, "token": os.urandom(8).hex()}
    for _ in range(_TRIES):
        with suppress(FileExistsError):
            with closing_fd(create(NAME, folder)) as descriptor:
                write_all(descriptor, _content(record, 0))
                os.fsync(descriptor)
            return Lease(folder, record, timing, "")
        with suppress(FileNotFoundError):  # its owner removed it meanwhile
            seen = _read_lease(folder)
            left_by = ""
            holder = lock.parse_holder(seen.record)
            # A holder on the same boot and mount needed the kernel lock, which this process holds now.
            if (holder.get("boot_id"), holder.get("device")) != (record["boot_id"], device):
                left_by = lock.describe_holder(seen.record).strip(" ()") or "somebody who left no name"
                _check_abandoned(folder, seen, name, stop, timing)
            replace_file(folder, NAME, _content(record, 0))
            lease = Lease(folder, record, timing, left_by)
            with ExitStack() as undo:
                undo.callback(lease.close)
                if left_by:
                    _wait_for_rivals(lease, name, stop, timing)
                undo.pop_all()
            return lease
    raise Busy(f"others come and go at the mirror of {name}", hint="Try again.")


def _check_abandoned(folder: int, seen: _LeaseState, name: str, stop: Callable[[], bool], timing: LeaseTiming) -> None:
    age = (_file_system_now_ns(folder) - seen.mtime_ns) / 1e9
    busy = Busy(
        f"another instance has a lease on the mirror of {name}{lock.describe_holder(seen.record)}",
        hint=_HINT.format(minutes=timing.abandoned_after / 60),
    )
    if -_MAX_FUTURE_SECONDS < age < timing.abandoned_after:
        raise busy
    for _ in _watching(stop, timing.watched_for):
        if _read_lease(folder) != seen:
            raise busy


def _wait_for_rivals(lease: Lease, name: str, stop: Callable[[], bool], timing: LeaseTiming) -> None:
    """Wait until any rival for the old lease has seen this one, or this one was replaced."""
    for _ in _watching(stop, timing.watched_for):
        if lease.why_lost():
            raise Busy(f"another instance took the mirror of {name} over, too, and was later", hint="Try again.")


def _watching(stop: Callable[[], bool], seconds: float) -> Iterator[None]:
    """Pause again and again until the time is over. Raises `Stopped`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if stop():
            raise Stopped("stopped while a lease was watched")
        time.sleep(_POLL_SECONDS)
        yield


def _content(record: dict[str, str | int | float], beats: int) -> bytes:
    # A fixed length, so that a record read during a write is valid.
    return json.dumps(record | {"beat": beats}).encode("ascii").ljust(lock.MOST_HOLDER_BYTES - 1) + b"\n"


def _read_lease(folder: int) -> _LeaseState:
    # Opened anew each time: on open, a network file system refreshes the file from its server.
    with closing_fd(open_own_file(NAME, folder, os.O_RDONLY)) as descriptor:
        return _LeaseState(os.pread(descriptor, lock.MOST_HOLDER_BYTES, 0), os.fstat(descriptor).st_mtime_ns)


def _file_system_now_ns(folder: int) -> int:
    name = b".lease-" + os.urandom(4).hex().encode()
    descriptor = create(name, folder)
    try:
        os.write(descriptor, b"now")
        os.fsync(descriptor)
        return os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)
        os.unlink(name, dir_fd=folder)
