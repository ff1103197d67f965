"""One running stack for all tests of a file."""

from collections.abc import Iterator

import pytest

from tests.monitoring.stack import Stack, running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A real service with healthy, failing, refused and stale pairs, scraped by a real Prometheus."""
    with running(tmp_path_factory.mktemp("stack")) as both:
        yield both
