"""Drills: one YAML file each says what is believed, what load and faults put it to the test, and which protections it rests on.

A drill is run on a platform of its own, in a folder that is kept: plan, faults, journal and page. For every protection there is a
control, the same drill with that protection switched off, which must fail at the finding that the file names: a proof that cannot
fail proves nothing.
"""
