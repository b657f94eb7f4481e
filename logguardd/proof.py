"""Proof that nobody but the program can write the address that a pattern takes."""
