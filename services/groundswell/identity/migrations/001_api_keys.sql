-- A secret has 256 random bits, so its plain SHA-256 can not be guessed back; a slow hash would only cost the verifier.
CREATE TABLE api_keys (
    tenant_id bigint NOT NULL,
    id bigint NOT NULL,
    secret_hash bytea NOT NULL,
    display_name text NOT NULL,
    scopes text[] NOT NULL,
    created_ms bigint NOT NULL,
    expires_ms bigint,
    revoked_ms bigint,
    PRIMARY KEY (tenant_id, id)
);
CALL isolate_tenants('api_keys');

-- Which tenant a key belongs to: the one question asked before a tenant is known. It holds nothing else.
CREATE TABLE key_tenants (
    id bigint PRIMARY KEY,
    tenant_id bigint NOT NULL
);
