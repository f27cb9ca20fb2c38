"""Formulas on scalars, shared by the CPU and CUDA kernels."""
