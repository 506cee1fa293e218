"""One firmware for each device of a list: checked, laid out, written, and proved afterwards."""
