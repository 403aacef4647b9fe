"""Exact judgements: what was promised against what is in the books."""
