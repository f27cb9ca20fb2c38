"""Pixel kernels. `scalar` defines each formula once; `cpu` and `cuda` hold the loops."""
