"""Tests that need servers of their own.

Without them these tests are skipped; with `KEYS_REQUIRE_CLUSTER=1`, as in CI, they fail.
"""

import os

import pytest

from tests.cluster.stores import missing_packages


def require_servers() -> None:
    """Skip the test, or fail it, with a sentence that says which of Debian's packages are missing."""
    if missing := missing_packages():
        sentence = f"This test needs servers of its own (apt-get install {' '.join(missing)})."
        if os.environ.get("KEYS_REQUIRE_CLUSTER") == "1":
            pytest.fail(sentence)
        pytest.skip(sentence)
