"""CPU kernels. Each call renders one chunk of samples in the calling thread, without the GIL."""
