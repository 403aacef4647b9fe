-- The answers of a tenant that are past their time, without looking at the others.
CREATE INDEX answers_answered ON answers (tenant_id, answered);
