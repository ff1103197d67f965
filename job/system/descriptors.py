"""How many descriptors this process may have open, and who may have how many of them.

A client of the HTTP port costs the service a descriptor, and so does a worker. The port gets a share of its own, so
that the work always finds the descriptors that it needs, however many clients there are.
"""

import resource
from contextlib import suppress

OF_MAIN = 100
"""What the main process needs for itself: both roots, state, logs, the way to a folder, files that are being copied."""
OF_A_WORKER = 4
"""What the main process needs for each worker."""
_LEAST_FOR_CLIENTS = 4
"""A probe, a scraper and a person, where the limit is lower than what the main process may need."""
_MOST_FOR_CLIENTS = 300
_PART_FOR_CLIENTS = 4
"""One in so many of the descriptors that the main process does not need."""
_NO_LIMIT = 1 << 20


def raise_limit() -> None:
    """Raise the soft limit to the hard limit, where the system allows it; nothing is said where it does not."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int:
    """Give the number of descriptors that this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _NO_LIMIT if soft == resource.RLIM_INFINITY else soft


def for_clients() -> int:
    """Give the number of clients that the HTTP port may serve at the same time; the rest is reserved for the work."""
    share = (limit() - OF_MAIN) // _PART_FOR_CLIENTS
    return max(_LEAST_FOR_CLIENTS, min(_MOST_FOR_CLIENTS, share))


def for_workers() -> int:
    """Give the number of workers that there are descriptors for, with every place of the HTTP port taken."""
    return max(0, (limit() - OF_MAIN - for_clients()) // OF_A_WORKER)
