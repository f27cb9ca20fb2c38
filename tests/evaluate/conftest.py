"""Fixtures of the evaluation tests."""

from tests.reference.threads import one_thread

__all__ = ["one_thread"]
