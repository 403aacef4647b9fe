-- What the kernel keeps in every service's database.

-- The tenant of the current transaction; NULL when none is set, so that no row matches.
-- As a subquery in a policy it is evaluated once a statement, not once a row.
CREATE FUNCTION current_tenant() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('app.tenant_id', true), '')::bigint $$;

-- Puts a table under row-level security; FORCE, because a table's owner passes over policies otherwise.
CREATE PROCEDURE isolate_tenants(tenant_table regclass) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tenant_table);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tenant_table);
    EXECUTE format(
        'CREATE POLICY tenant_isolation ON %s USING (tenant_id = (SELECT nullif(current_setting(''app.tenant_id'', true), '''')::bigint)) '
        'WITH CHECK (tenant_id = (SELECT nullif(current_setting(''app.tenant_id'', true), '''')::bigint))', tenant_table);
END $$;

-- Events on their way to Kafka. Only the relay reads it, over all tenants, and no query of a tenant names it.
CREATE TABLE outbox (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key bytea NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL
);

-- Events whose effect is in this database. Consumers write it before the tenant is known to be here, so it is not a tenant's table.
CREATE TABLE inbox (
    consumer text NOT NULL,
    event_id text NOT NULL,
    seen timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, event_id)
);
CREATE INDEX inbox_seen ON inbox (seen);

-- Answers to requests with an id.
CREATE TABLE answers (
    tenant_id bigint NOT NULL,
    request_id text NOT NULL,
    digest bytea NOT NULL,
    answer bytea NOT NULL,
    answered timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, request_id)
);
CALL isolate_tenants('answers');
