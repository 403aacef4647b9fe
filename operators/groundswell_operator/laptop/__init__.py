"""The same policies on a laptop: `python -m groundswell_operator laptop --home DIR POLICY`.

Bridge, passes, saga and writes are those of a cluster; what differs is who answers their requests. `local` does, from a file in the home
(`book`) for the operator's own kinds and from the supervisor's socket (`supervisor`) for what is scaled. The socket is the contract: no
code of the platform is imported.
"""
