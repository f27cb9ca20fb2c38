"""Fixtures of the tests of run files."""

from tests.reference.threads import one_thread

__all__ = ["one_thread"]
