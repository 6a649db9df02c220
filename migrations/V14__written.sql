-- The epoch and the transaction in which the service last wrote the row: its xmin is that transaction's while nobody else has written it. Rows that were
-- deleted and inserted again, from a backup or by hand, are known by that. Of another epoch, an earlier version wrote it, and nothing is known.
alter table dinnerbell.lane add column if not exists written int8;
