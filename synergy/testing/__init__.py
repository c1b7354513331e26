"""What tests of synergy, and of projects built on it, stand on."""
