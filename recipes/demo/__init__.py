"""Demonstration: write images to a file, train two methods and compare them, in a few minutes."""
