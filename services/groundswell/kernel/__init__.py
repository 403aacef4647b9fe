"""kernel — what every service needs, with no word of any domain.

Functions and composition, no base classes; each file could be a library of its own.
"""
