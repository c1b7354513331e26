"""The supervisor: keeps the programs of its box running."""
