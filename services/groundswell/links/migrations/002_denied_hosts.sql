-- Hosts that a tenant's links may not lead to, as destinations are compared; behind `*.` a name, for every host below it.
CREATE TABLE denied_hosts (
    tenant_id bigint NOT NULL,
    id bigint NOT NULL,
    host text COLLATE "C" NOT NULL,
    created_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, host)
);
CALL isolate_tenants('denied_hosts');
