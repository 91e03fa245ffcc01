"""Training in these tests uses one thread."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Models of a few hundred numbers: a second thread would only wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
