"""`ffcv-ssl demo`: run the program `recipes/demo` of an installed package."""

from collections.abc import Sequence
from importlib import import_module


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return the exit status."""
    status: int = import_module("ffcv_ssl.recipes.demo.program").main(argv)
    return status
