"""Describe a blocked thread for messages: its path, kernel function and stack. Also the kinds of threads."""

import os
import sys
import threading
from contextlib import suppress
from types import FrameType

from job.fs.mounts import kernel_text

_OURS = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}{os.sep}"
_MOST_FRAMES = 4


def blocked_path(process: int, thread: int) -> str:
    """Return the path of the first descriptor argument of a thread's system call; empty if unknown.

    For calls with `dir_fd` this is the folder. Does not access the disk.
    """
    call = kernel_text(f"/proc/{process}/task/{thread}/syscall").split()
    if len(call) < 2 or not call[0].isdecimal():  # noqa: PLR2004  # the number of the call and its first argument
        return ""
    with suppress(OSError, ValueError):
        path = os.readlink(f"/proc/{process}/fd/{int(call[1], 16)}")
        return path if path.startswith("/") else ""
    return ""


def kernel_function(process: int) -> str:
    """Return the kernel function in which a process sleeps; empty if unknown."""
    return kernel_text(f"/proc/{process}/wchan").strip("0 \n")


def our_frames(thread: int) -> str:
    """Return the innermost functions of this package on a thread's stack, innermost first."""
    names: list[str] = []
    frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001  # documented
    while frame is not None and len(names) < _MOST_FRAMES:
        code = frame.f_code
        if code.co_filename.startswith(_OURS):
            module = code.co_filename.removeprefix(_OURS).removesuffix(".py")
            names.append(f"{code.co_name} ({module}:{frame.f_lineno})")
        frame = frame.f_back
    return ", ".join(names)


class ForkSafeThread(threading.Thread):
    """A thread that never holds a lock that a forked child might need."""


class WorkThread(threading.Thread):
    """A thread that works while the main thread waits for it; a hang is diagnosed from its stack."""


def may_fork() -> bool:
    """Return whether no other thread can hold a lock, which a fork would copy as held.

    If another thread calls this, the main thread is blocked on it and holds no lock.
    """
    calm = {threading.current_thread(), threading.main_thread()}
    return all(each in calm or isinstance(each, ForkSafeThread) for each in threading.enumerate())


def work_thread() -> threading.Thread:
    """Return the `WorkThread` of this process, or the main thread."""
    found = (each for each in threading.enumerate() if isinstance(each, WorkThread))
    return next(found, threading.main_thread())
