"""Benchmarks: each compares with a named reference that runs in the same minute on the same machine, and prints a ratio.

On two cores the server that is measured shares them with its client, its broker and its store. So a server's speed is told in requests
for each second of its own CPU time, which the neighbours hardly change; what came through on the wall clock is among the details.
"""
