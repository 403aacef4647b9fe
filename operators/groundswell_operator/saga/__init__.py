"""What becomes of a spike, as one pure function of what the API server holds: state in, next steps out.

Nothing is remembered between two calls. A step that is done shows in the next state, so a crash, a doubled handler or another leader in
between leads to the same end: `deciding.decide` finds what is left. What is about to be overwritten is recorded before, in the spike's
status, and what is written counts as ours only while the API server says so (`managedFields`).
"""
