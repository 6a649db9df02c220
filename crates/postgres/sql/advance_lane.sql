-- Records the next round in its lane: a compare-and-set of epoch and seq. The feedback table is asked for too: until the first row of this
-- transaction was read or copied, another one could come into its place. Gives the position as it stands under the lock.
-- Locks: the lane's row, until the commit.
-- Index: the primary key of lane.
update dinnerbell.lane l set {written}, seq = seq + 1, published_seq = $3, overrule = false, round_bytes = $5
where lane = $1 and epoch = $2 and seq = $3 and {untouched(l)} and {feedback_is_known($4)}
returning position
