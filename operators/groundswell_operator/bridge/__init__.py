"""The bridge: a process of its own that turns records of `spikes.events.v1` into ViralSpike objects, and does nothing else.

A record is worth one object whatever way it comes: the object's name follows from the policy and the spike's id, that it is there already
is success, and an offset is committed only after the API server has answered. It shares no loop with kopf, which ends tasks that are not
its own.
"""
