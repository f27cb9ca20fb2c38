"""Door: what moves between this package and others. Files need no door: FFCV 1.0.x reads ours and we read its (`make interop`)."""
