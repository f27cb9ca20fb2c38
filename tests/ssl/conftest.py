"""Fixtures for the tests of `ffcv_ssl.ssl`."""

from tests.reference.threads import one_thread

__all__ = ["one_thread"]
