"""One verb a file; each offers `command`."""
