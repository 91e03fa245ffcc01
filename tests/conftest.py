"""Tests run with shape annotations checked, without the network, and in the smallest profile."""

import importlib.util
import os

import matplotlib
import pytest

os.environ.setdefault("XATTN_CHECK_SHAPES", "1")
os.environ.setdefault("XATTN_PROFILE", "ci")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A test may be slow on a busy machine. (The environment of `make parity` has no hypothesis.)
if importlib.util.find_spec("hypothesis"):
    from hypothesis import settings

    settings.register_profile("course", deadline=None)
    settings.load_profile("course")

matplotlib.use("agg")  # not by MPLBACKEND, which would reach the notebooks' kernels and take their figures away


@pytest.fixture(params=[True, False], ids=["checked", "unchecked"])
def either_way(request):
    """The test runs twice, with shape annotations checked and not."""
    from xattn_edu import check_shapes

    check_shapes(request.param)
    yield
    check_shapes(True)


@pytest.fixture(scope="module")  # so that a module's own runs have it too
def one_thread():
    """Models of a few hundred numbers: a second thread would only wait, and sums would depend on their number."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
