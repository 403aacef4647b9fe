"""links — short links that redirect in a millisecond, cannot be guessed, and whose clicks add up exactly.

Owns links, their codes, short domains, tags, the click total of each link, and the hosts that tenants deny.  Serves LinkService.
Publishes links.events.v1.  Consumes tenancy.events.v1 (a tenant's own domain), analytics.totals.v1 (click totals) and its own
links.events.v1 (cache).
When it is down hot links still redirect from the gateways' near cache, and creation answers 503. PostgreSQL down: what Valkey holds
redirects. Valkey down: PostgreSQL answers behind a bulkhead. Kafka down: redirects go on, and news of changes wait in the outbox. A
process that starts meanwhile serves the same, but refuses calls with a credential until it knows who is suspended.
"""
