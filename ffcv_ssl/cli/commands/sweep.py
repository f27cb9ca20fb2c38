"""`ffcv-ssl sweep`: run the program `recipes/sweep.py` of an installed package."""

from collections.abc import Sequence
from importlib import import_module


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return the exit status."""
    status: int = import_module("ffcv_ssl.recipes.sweep").main(argv)
    return status
