-- Claims dead letters for a replay that nobody else has claimed or replayed meanwhile, or all of them where that is asked for. Returns the records.
-- Locks: the rows that it claims.
-- Index: the primary key of dead_letter.
update dinnerbell.dead_letter set replay_claimed_at = clock_timestamp(), replay_claimed_by = $2, replay_run = $3
where id = any($1) and ($4 or (replayed_at is null and replay_claimed_at is null))
returning id, arrived_lane, key, value, header_names, header_values
