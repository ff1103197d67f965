"""Whether this kernel lets work be walled in."""

import pytest

from job.system.sandbox import unavailable

needs_landlock = pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "it does")
