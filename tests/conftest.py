"""Fixtures and markers shared by all tests."""

import importlib.util
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items):
    """Skip GPU tests without a GPU, interop without FFCV, and tests of absent real images."""
    if any(item.get_closest_marker("gpu") for item in items):
        import torch

        gpu = torch.cuda.is_available()
    for item in items:
        if item.get_closest_marker("gpu") and not gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if item.get_closest_marker("interop") and importlib.util.find_spec("ffcv") is None:
            item.add_marker(pytest.mark.skip(reason="needs FFCV: make interop"))
        if item.get_closest_marker("shared_data") and not SHARED_DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason="needs the real images beside the checkout"))


@pytest.fixture(scope="session")
def shared_data():
    """Return the folder of the real images; tests that use it need the marker `shared_data`."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real images beside the checkout")
    return SHARED_DATA
