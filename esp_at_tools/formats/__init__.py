"""Binary and text formats of AT firmware: bytes in, bytes out; no files, no chips, no terminal."""
