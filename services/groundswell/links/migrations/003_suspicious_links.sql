-- Links whose visitors see where they lead before they follow: a row for each, because a column of `links` would change what the
-- statements of processes that run already give back.
CREATE TABLE suspicious_links (
    tenant_id bigint NOT NULL,
    shard smallint NOT NULL,
    link_id bigint NOT NULL,
    PRIMARY KEY (tenant_id, shard, link_id),
    FOREIGN KEY (tenant_id, shard, link_id) REFERENCES links ON DELETE CASCADE
);
CALL isolate_tenants('suspicious_links');
