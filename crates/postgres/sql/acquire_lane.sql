-- Takes a lane: its epoch moves. Gives the lane as it stands, and whose ledger this is.
-- Locks: the lane's row; the lane's advisory lock is held alone by then.
-- Index: the primary key of lane.
update dinnerbell.lane set epoch = epoch + 1, owner = $2, entered_at = clock_timestamp()
where lane = $1
returning epoch, {postmaster} as postmaster, seq, published_seq, position, last_offset, last_timestamp, last_hash, overrule,
  halted, halted_found, halted_remedy, topic_id, round_bytes, compared,
  (select ledger from dinnerbell.service) as ledger,
  (select {comparison} from dinnerbell.service) as comparison,
  (select notifications_id from dinnerbell.service) as notifications_id,
  (select dead_letters_id from dinnerbell.service) as dead_letters_id
