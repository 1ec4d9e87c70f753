"""One thread for torch: with models this small, threads on busy cores wait for each other longer than they work."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)
