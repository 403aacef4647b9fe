-- Every key begins with the tenant and, where rows are many, its logical shard: hash(domain, code) mod 8192 for what belongs to a
-- link (an id carries its shard in bits 10 to 22), hash(owner) mod 8192 for what belongs to a list.

-- Host to domain: read before any tenant is known, so it is the one table without a policy, and it holds nothing else.
CREATE TABLE domain_hosts (
    host text COLLATE "C" PRIMARY KEY,
    tenant_id bigint NOT NULL,
    domain_id bigint NOT NULL
);

CREATE TABLE domains (
    tenant_id bigint NOT NULL,
    id bigint NOT NULL,
    host text COLLATE "C" NOT NULL,
    is_default boolean NOT NULL,
    created_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX domains_default ON domains (tenant_id) WHERE is_default;
CALL isolate_tenants('domains');

-- No foreign key to domains: each insert would lock the one row of the tenant's domain, and domains are never deleted.
CREATE TABLE links (
    tenant_id bigint NOT NULL,
    shard smallint NOT NULL CHECK (shard BETWEEN 0 AND 8191),
    id bigint NOT NULL,
    domain_id bigint NOT NULL,
    code text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    destination text NOT NULL,
    valid_since_ms bigint,
    expires_ms bigint,
    max_visits bigint NOT NULL,
    visits_used bigint NOT NULL DEFAULT 0 CHECK (max_visits = 0 OR visits_used >= 0),
    is_active boolean NOT NULL,
    redirect_status smallint NOT NULL,
    edge_seconds integer NOT NULL,
    title text NOT NULL,
    created_ms bigint NOT NULL,
    updated_ms bigint NOT NULL,
    deleted_ms bigint,
    version bigint NOT NULL,
    PRIMARY KEY (tenant_id, shard, id),
    UNIQUE (tenant_id, shard, domain_id, code),
    CHECK (shard = (id >> 10) & 8191)
);
CALL isolate_tenants('links');

CREATE TABLE link_tags (
    tenant_id bigint NOT NULL,
    shard smallint NOT NULL,
    link_id bigint NOT NULL,
    position smallint NOT NULL,
    tag text NOT NULL,
    PRIMARY KEY (tenant_id, shard, link_id, position),
    FOREIGN KEY (tenant_id, shard, link_id) REFERENCES links ON DELETE CASCADE
);
CALL isolate_tenants('link_tags');

-- Absolute totals as analytics tells them; a row of its own, so that counting never writes a link.
CREATE TABLE click_totals (
    tenant_id bigint NOT NULL,
    shard smallint NOT NULL,
    link_id bigint NOT NULL,
    clicks bigint NOT NULL,
    bots bigint NOT NULL,
    PRIMARY KEY (tenant_id, shard, link_id),
    FOREIGN KEY (tenant_id, shard, link_id) REFERENCES links ON DELETE CASCADE
);
CALL isolate_tenants('click_totals');

-- Live links of an owner, newest first by id.
CREATE TABLE links_by_owner (
    tenant_id bigint NOT NULL,
    shard smallint NOT NULL,
    owner text COLLATE "C" NOT NULL,
    link_id bigint NOT NULL,
    PRIMARY KEY (tenant_id, shard, owner, link_id)
);
CALL isolate_tenants('links_by_owner');

-- Live links of an owner by sha256 of destination and options.
CREATE TABLE link_finds (
    tenant_id bigint NOT NULL,
    shard smallint NOT NULL,
    owner text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    link_id bigint NOT NULL,
    PRIMARY KEY (tenant_id, shard, owner, digest, link_id)
);
CALL isolate_tenants('link_finds');

-- The next sequence number to lease, for each domain and length of code.
CREATE TABLE code_blocks (
    tenant_id bigint NOT NULL,
    domain_id bigint NOT NULL,
    length smallint NOT NULL,
    next bigint NOT NULL,
    PRIMARY KEY (tenant_id, domain_id, length)
);
CALL isolate_tenants('code_blocks');
