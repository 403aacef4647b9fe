"""Load, faults and verdicts: the platform seen from outside.

Nothing here imports a service. What a user can reach is all there is to work with: the public HTTP door, the files
that `up` leaves in the home folder, and the command line. So a verdict says what a user would see, and the same code
can be pointed at a cluster later.
"""
