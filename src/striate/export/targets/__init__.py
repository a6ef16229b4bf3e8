"""What a network can be written as, one target a file.

A target's file offers `SUFFIX`, the end of its files' names; `DESCRIPTION`, one line; `PACKAGES`, what it
imports, and only on use; `INSTALL`, the command that brings them; `write(network, path, card)`;
`opened(path) -> Engine`, which runs what was written; and, where there is int8,
`quantise(source, path, batches)`.
"""
