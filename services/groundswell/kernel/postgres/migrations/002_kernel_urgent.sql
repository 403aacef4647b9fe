-- Events that change what somebody may have kept: the relay sends them before the others.
ALTER TABLE outbox ADD COLUMN urgent boolean NOT NULL DEFAULT false;
CREATE INDEX outbox_urgent ON outbox (seq) WHERE urgent;
-- What was written of the same thing before, which goes first all the same.
CREATE INDEX outbox_key ON outbox (key, seq);
