"""Plan and kills of a drill, drawn from a seed: the same drill, profile and seed give the same, byte for byte."""

import numpy as np

from loadtests.arrivals import Plan, Stream, Visitors, constant, draw
from loadtests.drills.spec import Drill, Profile
from loadtests.faults.kills import Kill

FIRST_SHARE, LAST_SHARE = 0.08, 0.86
"""Kills fall between these shares of the load's time, so that the last one's recovery is still under load."""
WITHIN = 0.6
"""A kill falls in this first share of its slot; the rest is for the victim to come back."""


def plan_of(drill: Drill, profile: Profile, seed: int) -> Plan:
    """An even load over the links."""
    shape = constant(profile.clicks / profile.seconds, profile.seconds)
    return draw([Stream(shape, 0, drill.links, drill.skew)], Visitors(), seed)


def kills_of(drill: Drill, profile: Profile, seed: int) -> list[Kill]:
    """Each victim dies as often as the others, give or take one, each time in its own slot of the time.

    The ways come by turns, in the file's order: so a few kills suffice to have every one of them, whatever the seed.
    """
    random = np.random.default_rng([seed, len(drill.kills)])
    victims = list(drill.kills)
    favoured = set(random.permutation(victims)[: profile.kills % len(victims)].tolist())
    kills = []
    for victim in victims:
        count = profile.kills // len(victims) + (victim in favoured)
        ways = drill.kills[victim]
        slot_s = profile.seconds * (LAST_SHARE - FIRST_SHARE) / count
        for number in range(count):
            at_s = profile.seconds * FIRST_SHARE + slot_s * (number + WITHIN * float(random.random()))
            kills.append(Kill(round(at_s, 3), victim, ways[number % len(ways)]))
    return sorted(kills, key=lambda kill: kill.at_s)
