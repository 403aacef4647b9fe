"""What shall be done, as pure functions of what is known: no clock, no API, nothing that a crash could tear.

`admission` says which spikes get a place, `raising` how many replicas each target is to have and which writes bring it there,
`lowering` how a raise is taken back. Asked again with the same figures they give the same answer, and nothing to do once it is done.
"""
