"""CPU loops: one chunk of samples in one of the loader's threads, without the GIL."""
