"""One module per self-supervised method: its loss as a function, and the method as a module."""
