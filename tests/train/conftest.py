"""Fixtures of the training tests."""

from tests.reference.threads import one_thread

__all__ = ["one_thread"]
