"""The rules of analytics: frames to counts, counts to answers; no I/O."""
