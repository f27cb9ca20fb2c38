"""Compute views from pixels: `scalar` holds each formula once, `cpu` and `cuda` the two loops around it."""
