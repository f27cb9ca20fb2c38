"""Operating system services: paths, names, files, temporary files, cores and signals."""
