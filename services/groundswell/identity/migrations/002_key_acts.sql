-- Who made and who revoked a key: a table of its own, because a column of `api_keys` would change what the statements of processes that run
-- already give back. Keys from before it have no row.
CREATE TABLE key_acts (
    tenant_id bigint NOT NULL,
    id bigint NOT NULL,
    key_id bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    actor text NOT NULL,
    acted_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, key_id, kind)
);
CALL isolate_tenants('key_acts');

-- What was done stays done. Grants would not hold it: they are given anew for all tables after each migration.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'Rows of % are never changed or removed.', TG_TABLE_NAME USING ERRCODE = 'object_not_in_prerequisite_state';
END $$;
CREATE TRIGGER key_acts_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON key_acts FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
