CREATE TABLE bookmarks (tenant_id bigint NOT NULL, id bigint NOT NULL, owner text NOT NULL, note text NOT NULL, PRIMARY KEY (tenant_id, id));
CALL isolate_tenants('bookmarks');
