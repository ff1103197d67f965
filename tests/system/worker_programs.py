"""What the workers of tests run: in a module of its own, as a fresh interpreter imports all that stands beside it."""

import os
import time

from job.system.processes import Descriptor, WorkerPipe


def echo(pipe: WorkerPipe, orders: object) -> None:
    """Answer every task with itself, after the orders."""
    pipe.send(orders)
    while (task := pipe.next()) is not None:
        pipe.send(task)


def talk(pipe: WorkerPipe, orders: tuple[int, int]) -> None:
    """Send so many answers of such a size before the first task is looked at."""
    count, size = orders
    for _ in range(count):
        pipe.send(bytes(size))
    echo(pipe, orders)


def fail(_: WorkerPipe, orders: str) -> None:
    raise RuntimeError(orders)


def leave(_: WorkerPipe, orders: int) -> None:
    os._exit(orders)


def read(pipe: WorkerPipe, orders: Descriptor) -> None:
    pipe.send(os.pread(orders.number, 100, 0))
    pipe.next()


def work_until_stopped(pipe: WorkerPipe, orders: object) -> None:
    """Be too busy to look at tasks."""
    pipe.send(orders)
    while not pipe.stopped():
        time.sleep(0.001)
    pipe.send("stopped")
    while pipe.next() is not None:
        pass


def never_end(pipe: WorkerPipe, orders: object) -> None:
    pipe.send(orders)
    while True:
        time.sleep(60)
