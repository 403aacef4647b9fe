"""Who comes when: arrivals are planned before the first request, and the same seed gives the same plan byte for byte."""

from loadtests.arrivals.plan import Plan, Stream, Visitors, draw
from loadtests.arrivals.shapes import Shape, constant, ramp, step

__all__ = ["Plan", "Shape", "Stream", "Visitors", "constant", "draw", "ramp", "step"]
