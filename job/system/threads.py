"""Threads by what they mean to others: who may be forked beside, and who does what the main thread waits for."""

import threading


class Resting(threading.Thread):
    """A thread beside which the process may fork: it never holds a lock that a child might need."""


class AtWork(threading.Thread):
    """A thread that does what the main thread waits for: whoever asks why nothing moves has to look at it."""


def may_fork() -> bool:
    """Tell whether nobody else can hold a lock, which a fork would copy as held.

    The main thread holds none: if it is not the one that asks, it waits for what that one tells it.
    """
    calm = {threading.current_thread(), threading.main_thread()}
    return all(each in calm or isinstance(each, Resting) for each in threading.enumerate())


def at_work() -> threading.Thread:
    """Give the thread that does the work of this process."""
    found = (each for each in threading.enumerate() if isinstance(each, AtWork))
    return next(found, threading.main_thread())
