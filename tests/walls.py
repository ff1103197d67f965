"""Whether this kernel lets work be walled in."""

import pytest

from job.system.sandbox import why_unavailable

needs_landlock = pytest.mark.skipif(bool(why_unavailable()), reason=why_unavailable() or "it does")
