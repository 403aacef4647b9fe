"""The parts of the benchmark `scale`: what it runs on, the trace of a spike and what is read off it, single raises, and the picture."""
