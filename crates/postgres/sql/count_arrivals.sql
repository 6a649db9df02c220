-- Counts as what the records of a lane ended.
-- Locks: the lane's row, which is locked already.
-- Index: the primary key of lane.
update dinnerbell.lane set {written}, campaigns = campaigns + $2, updates = updates + $3, older_updates = older_updates + $4,
  duplicates = duplicates + $5, handed_over = handed_over + $6, cancellations = cancellations + $7,
  dead_letters = dead_letters + $8, records = records + $9
where lane = $1
