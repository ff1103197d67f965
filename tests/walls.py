"""Whether this kernel lets work be walled in."""

import pytest

from job.adapters.wall import unavailable

needs_landlock = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "it does")
