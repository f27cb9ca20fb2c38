"""CUDA loops: blocks own views, threads own pixels."""
