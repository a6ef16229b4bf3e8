"""Networks that name the class of each pixel, one family a file."""
