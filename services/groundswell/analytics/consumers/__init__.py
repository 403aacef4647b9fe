"""The edges of the log: frames into the store, and ranges of it into the rollups."""
