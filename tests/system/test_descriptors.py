"""Who may have how many descriptors: the work has its own, whatever the clients of the HTTP port do."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from job.system.resources import (
    MAIN_DESCRIPTORS,
    WORKER_DESCRIPTORS,
    client_limit,
    descriptor_limit,
    raise_descriptor_limit,
    worker_limit,
)


@contextmanager
def limited(most: int) -> Iterator[None]:
    """Lower the soft limit of this process for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("most", [117, 128, 256, 400, 1024, 4096])
def test_what_the_work_needs_is_left_when_every_place_of_the_port_is_taken(most: int) -> None:
    with limited(most):
        assert client_limit() >= 4
        assert worker_limit() >= 2
        assert MAIN_DESCRIPTORS + client_limit() + WORKER_DESCRIPTORS * worker_limit() <= most


def test_a_low_limit_leaves_the_port_a_few_clients_and_the_work_no_workers() -> None:
    with limited(64):
        assert (client_limit(), worker_limit()) == (4, 0)


def test_a_high_limit_gives_the_port_no_more_than_it_needs() -> None:
    with limited(resource.getrlimit(resource.RLIMIT_NOFILE)[1]):
        assert client_limit() <= 300


def test_the_soft_limit_is_raised_to_the_hard_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with limited(200):
        assert descriptor_limit() == 200
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_run_raises_its_limit_before_it_asks_how_many_workers_there_may_be(tmp_path: object) -> None:
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (150, 700));"
        "from job.cli.main import main; main(['--config', sys.argv[1], 'run', '--once']);"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, f"{tmp_path}/none.json"], capture_output=True, text=True, check=True
    )

    assert done.stdout == "(700, 700)\n"
