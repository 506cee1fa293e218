"""A build folder, made without a compiler: what is in it, where it comes from, how it is written."""
