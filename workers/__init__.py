"""The suite's workers: plain functions that the engine hands units of work."""
