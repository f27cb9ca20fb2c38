"""Formulas of plain numbers, called alike by the CPU and the CUDA kernels."""
