"""`ffcv-ssl sweep`: the program `recipes/sweep.py`, for those who installed the package."""

from collections.abc import Sequence
from importlib import import_module


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return import_module("ffcv_ssl.recipes.sweep").main(argv)
