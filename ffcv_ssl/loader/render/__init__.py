"""Decoding of stored images and rendering of their views, on the CPU or for a GPU."""
