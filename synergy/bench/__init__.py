"""Measures what the engine and its shells cost on this machine; see the verb ``bench``."""
