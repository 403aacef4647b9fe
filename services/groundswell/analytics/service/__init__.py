"""The use cases of analytics: one a file."""
