-- Moves the lane's position, if it stands where the batch began and nothing is held.
-- Locks: the lane's row, until the commit.
-- Index: the primary key of lane.
update dinnerbell.lane set {written}, position = $4, last_offset = coalesce($5, last_offset),
  last_timestamp = coalesce($6, last_timestamp), last_hash = coalesce($7, last_hash)
where lane = $1 and epoch = $2 and position = $3 and not {held}
