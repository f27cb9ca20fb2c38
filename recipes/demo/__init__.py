"""The demonstration: drawn images or your own, written, trained on and compared in a few minutes."""
