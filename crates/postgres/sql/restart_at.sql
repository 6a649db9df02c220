-- Clears a halt that ends so ($4), and lets the lane go on at position $2. The last round's offset moves too: it is what Kafka is
-- told when its mark was lost with the topic.
-- Locks: the lane's row, then the round's.
-- Index: the primary keys of lane and round.
with
  moved as (
    update dinnerbell.lane set {cleared}, resolved_by = $3, position = $2, last_offset = null, last_timestamp = null,
      last_hash = null, topic_id = null
    where lane = $1 and halted = any($4)
    returning lane, seq),
  told as (update dinnerbell.round r set position = $2 from moved m where r.lane = m.lane and r.seq = m.seq)
select lane from moved
