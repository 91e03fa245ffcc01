"""A model that several files of tests convert, or refuse as another one's."""

import pytest

from xattn_edu.models.vit import ViT


@pytest.fixture
def ours():
    """A small ViT."""
    return ViT(image_size=16, patch=8, width=32, depth=2, heads=4, classes=3).eval()
