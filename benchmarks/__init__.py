"""Measurements of the loader and of its peers. The folder is installed as `ffcv_ssl.benchmarks`; its scripts run from the checkout."""
