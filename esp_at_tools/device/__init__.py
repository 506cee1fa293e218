"""Modules on a serial port: what is written where, and the writing itself through esptool's library."""
