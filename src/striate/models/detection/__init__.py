"""Networks that put boxes around things, one family a file."""
