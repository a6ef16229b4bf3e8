"""The engines, one a file: what runs which kind of file.

An engine's file offers `SUFFIXES`, the names' ends that are its own; `READS`, further ones that it can open;
`PACKAGE`, what it imports, and only when a file is opened; `INSTALL`, the command that brings it; and
`opened(path, device, made_by, card) -> Opened`, where `card` stands in for that of a file which has none.
"""
