"""What all rooms' tests share."""

import importlib.util
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items):
    """Skip what this machine cannot run: GPU tests without a GPU, interop without FFCV, real images where they are absent."""
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
    """Folder of the real images; tests that use it carry the marker of the same name."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real images beside the checkout")
    return SHARED_DATA
