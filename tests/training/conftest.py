"""Training in these tests uses one thread."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def training_uses_one_thread(one_thread):
    """In all tests of this folder."""
