"""Fixture for packages whose tests compute with torch."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Make torch compute in one thread.

    The tensors of the tests are tiny. With several threads on a busy machine most of the time is
    spent on synchronization.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
