-- Schemes beside http and https that links of a domain may lead to: a row for each, because a column of `domains` would change what the
-- statements of processes that run already give back. Domains are never deleted, so no foreign key locks them.
CREATE TABLE domain_schemes (
    tenant_id bigint NOT NULL,
    domain_id bigint NOT NULL,
    scheme text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, domain_id, scheme)
);
CALL isolate_tenants('domain_schemes');
