"""Worker threads, memory for batches, and batches in preparation."""
