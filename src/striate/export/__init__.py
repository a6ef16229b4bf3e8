"""Writes a network for other runtimes and proves that what was written agrees with it."""
