"""Certificates and private keys: reading and checking."""
