"""What a policy would do about an event, told without doing it: `python -m groundswell_operator plan POLICY EVENT`.

`files` reads the policy, the event and what is there, `rehearsal` lets the operator's own `decide` act on them in memory, second by
second, and `command` prints what came of it. Nothing is asked of a cluster.
"""
