-- Makes the round with which a mended lane goes on, or gives it its revision and checksum.
-- Locks: the round; the lane's row is locked already.
-- Index: the primary keys of lane and round.
insert into dinnerbell.round (lane, seq, revision, checksum, drafts, position, trigger_datetime_created)
select lane, $2, $3, $4, 0, position, $5 from dinnerbell.lane where lane = $1
on conflict (lane, seq) do update set revision = excluded.revision, checksum = excluded.checksum
