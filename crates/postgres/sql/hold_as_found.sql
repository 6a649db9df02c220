-- Locks the lane's row, if the lane still stands as it was found.
-- Locks: the lane's row, until the commit.
-- Index: the primary key of lane.
select 1 from dinnerbell.lane
where lane = $1 and epoch = $2 and seq = $3 and published_seq is not distinct from $4
for update
