-- The list of tenants is the platform's own, so no tenant's policy holds it; the service decides who sees which row.
CREATE TABLE tenants (
    id bigint PRIMARY KEY,
    slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9-]{3,40}$'),
    display_name text NOT NULL,
    suspended boolean NOT NULL DEFAULT false,
    created_ms bigint NOT NULL,
    revision bigint NOT NULL DEFAULT 1
);
