-- Whose feedback table the ledger knows, by its name and its identity; and the identity that this table had then. Where it has another one, the
-- whole database was restored from a dump, and the feedback table came along.
alter table dinnerbell.service
    add column if not exists feedback_table text,
    add column if not exists feedback_oid oid,
    add column if not exists service_oid oid;
-- The id of the topic that the lane has read.
alter table dinnerbell.lane add column if not exists topic_id text;
