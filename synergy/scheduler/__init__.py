"""The loop around the engine: the only one that touches it."""
