"""gateway — one public door: every RPC as HTTP, cached, counted and protected.

Owns the public port, the transcoder, the OpenAPI document and the near cache of hot answers; no domain.  Serves every method that
carries `google.api.http`, the console's files, and GatewayService.  Publishes rows of telemetry (analytics.frames.v1) for methods
that ask for it.  Consumes every topic whose events purge cached answers.
When it is down nothing enters; a process keeps no state but its journal, so any other one serves the next request. Neighbours down:
identity → credentials checked in the last 30 s still work; Kafka → answers go on past the cache, rows wait in the journal; an
upstream → kept answers for as long as their method allows, then 503.
"""
