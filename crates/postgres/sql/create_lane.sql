-- Creates a lane with its round 0, if it is not there.
-- Locks: the new rows; it waits for a transaction that has changed the lane's row.
-- Index: the primary key of lane.
with created as (
  insert into dinnerbell.lane (lane, lock_key, position, written) values ($1, $2, $3, txid_current() & 4294967295) on conflict do nothing returning lane)
insert into dinnerbell.round (lane, seq, checksum, drafts, position, trigger_datetime_created)
select lane, 0, 0, 0, $3, 0 from created
