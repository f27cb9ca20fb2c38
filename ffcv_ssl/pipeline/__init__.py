"""Plans: pipelines of transforms become render passes, stages and output tensors."""
