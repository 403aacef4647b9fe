"""Tests of links, on the real engines."""
