"""The edges of analytics: one servicer a file."""
