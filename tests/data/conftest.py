"""A data set that several files of tests read."""

import pytest
from helpers.miniature_refcoco import miniature


@pytest.fixture
def small(tmp_path):
    return miniature(tmp_path / "data")
