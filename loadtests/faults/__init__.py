"""Faults that are made on purpose, on a time line, and taken back whatever happens."""
