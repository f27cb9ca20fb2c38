"""What the operating system offers, in the form that this package needs: paths, files, cores, signals."""
