"""Datasets that need no download: a file is a dataset, found by its name.

Each offers `DESCRIPTION: str`, one line for the `datasets` verb, and `read() -> Dataset`, whose
items have no part yet: the split is made by the settings of whoever asks.
"""
