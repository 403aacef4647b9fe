"""tenancy — many customers on one installation.

Owns tenants.  Serves TenantService.  Publishes tenancy.events.v1 (each event the tenant's full state; every process keeps the
directory in memory).  Consumes nothing.
When it is down requests go on; only creating, suspending and resuming wait.
"""
