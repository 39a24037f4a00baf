"""What only a clone has: published results and the pictures of its pages."""

from pathlib import Path

import pytest

needs_published = pytest.mark.skipif(
    not (Path(__file__).parent.parent / "results").exists(),
    reason="a source distribution holds no published results and no pictures",
)
