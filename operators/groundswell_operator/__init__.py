"""The operator: raises what serves a viral spike before its visitors arrive, inside a budget, and gives it back step by step.

Owns the kinds ViralSpikePolicy and ViralSpike (`crds/`), and every floor that it raised until it is given back. Detection is not its
business: it acts upon spikes that it is told of. It imports no service of the platform.
"""
