"""Diagnose a hang from what the kernel and the interpreter report, for messages only; and the kinds of threads.

`ForkSafeThread` may run beside a fork; `WorkThread` does the work that the main thread waits for.
"""

import os
import sys
import threading
from contextlib import suppress
from types import FrameType

_OURS = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}{os.sep}"
_MOST_FRAMES = 4


def blocked_path(process: int, thread: int) -> str:
    """Name the file or folder that the system call is about in which a thread waits; empty if that is not known.

    It is the path of an open file, so for what is named in a call it is the folder. Nothing is asked of its disk.
    """
    call = _read(f"/proc/{process}/task/{thread}/syscall").split()
    if len(call) < 2 or not call[0].isdecimal():  # noqa: PLR2004  # the number of the call and its first argument
        return ""
    with suppress(OSError, ValueError):
        path = os.readlink(f"/proc/{process}/fd/{int(call[1], 16)}")
        return path if path.startswith("/") else ""
    return ""


def kernel_function(process: int) -> str:
    """Name the function of the kernel that a process sleeps in; empty if that is not known."""
    return _read(f"/proc/{process}/wchan").strip("0 \n")


def our_frames(thread: int) -> str:
    """Name the functions of ours that a thread of this process is in, innermost first."""
    names: list[str] = []
    frame: FrameType | None = sys._current_frames().get(thread)  # noqa: SLF001  # public, whatever its name says
    while frame is not None and len(names) < _MOST_FRAMES:
        code = frame.f_code
        if code.co_filename.startswith(_OURS):
            module = code.co_filename.removeprefix(_OURS).removesuffix(".py")
            names.append(f"{code.co_name} ({module}:{frame.f_lineno})")
        frame = frame.f_back
    return ", ".join(names)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


class ForkSafeThread(threading.Thread):
    """A thread beside which the process may fork: it never holds a lock that a child might need."""


class WorkThread(threading.Thread):
    """A thread that does what the main thread waits for: whoever asks why nothing moves has to look at it."""


def may_fork() -> bool:
    """Tell whether nobody else can hold a lock, which a fork would copy as held.

    The main thread holds none: if it is not the one that asks, it waits for what that one tells it.
    """
    calm = {threading.current_thread(), threading.main_thread()}
    return all(each in calm or isinstance(each, ForkSafeThread) for each in threading.enumerate())


def work_thread() -> threading.Thread:
    """Give the thread that does the work of this process."""
    found = (each for each in threading.enumerate() if isinstance(each, WorkThread))
    return next(found, threading.main_thread())
