"""Attacks on Remit, protections taken away and processes killed, and the tests that must notice."""
