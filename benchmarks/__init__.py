"""Benchmarks of the loader and its peers.

The folder is installed as `ffcv_ssl.benchmarks`. The scripts also run from a checkout.
"""
