-- Writes a round. Its position is the lane's, as it stands under the lock.
-- Locks: the new row; the lane's row is locked already.
-- Index: the primary key of lane.
insert into dinnerbell.round (lane, seq, checksum, drafts, position, trigger_datetime_created, dead_letters)
select lane, $2, $3, $4, position, $5, $6 from dinnerbell.lane where lane = $1
