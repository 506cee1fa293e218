"""A flash image as a whole: open any INPUT, read and change it, compare, check, write."""
