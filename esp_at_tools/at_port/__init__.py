"""A running module, asked and changed over its AT port."""
