"""Threads, buffers, and the batches that are in the making."""
