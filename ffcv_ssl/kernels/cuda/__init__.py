"""CUDA kernels. Blocks own views, threads own pixels."""
