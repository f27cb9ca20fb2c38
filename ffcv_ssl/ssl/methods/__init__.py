"""Self-supervised methods, one module each: the loss as a function, and the method as a module."""
