"""From stored images to finished views: what to decode, decode it, render it, on the CPU or for a GPU."""
