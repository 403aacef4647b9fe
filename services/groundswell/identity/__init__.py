"""identity — who may act for a tenant.

Owns API keys.  Serves ApiKeyService.  Publishes identity.revocations.v1 (every process refuses a revoked key within 1 s).
Consumes nothing.
When it is down keys that a process has checked in the last 30 s go on; others get 503 and try again.
"""
