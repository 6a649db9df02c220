-- Says how a replica stands: whether it receives, whether it replays, and up to when. Where the role may not see it, what the receiver does is null.
-- Locks: none.
-- Index: none; views of the server.
select
  exists (select from pg_stat_wal_receiver) as receives,
  (select status from pg_stat_wal_receiver) as status,
  (select extract(epoch from clock_timestamp() - last_msg_receipt_time)::float8 from pg_stat_wal_receiver) as silent,
  coalesce(pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn(), false) as unreplayed,
  case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end as paused,
  extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float8 as age,
  to_char(pg_last_xact_replay_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as replayed
where pg_is_in_recovery()
