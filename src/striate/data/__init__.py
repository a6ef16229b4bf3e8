"""Disk to `Sample` to `Batch`."""
