-- Takes a lane: its epoch moves. Gives the lane as it stands, and whose ledger this is. One whose row somebody else wrote is not compared.
-- Locks: the lane's row; the lane's advisory lock is held alone by then.
-- Index: the primary keys of lane and campaign.
with found as (
  select lane, {untouched(l)} as untouched from dinnerbell.lane l where lane = $1 for update)
update dinnerbell.lane l set {next_epoch}, owner = $2, entered_at = clock_timestamp(),
  compared = case when untouched then compared else '' end
from found where l.lane = found.lane
returning epoch, {postmaster} as postmaster, seq, published_seq, position, last_offset, last_timestamp, last_hash, overrule,
  halted, halted_found, halted_remedy, topic_id, round_bytes, compared,
  (select ledger from dinnerbell.service) as ledger,
  exists (select from {lanes_of_locked_rows} w where w.lane = $1) as locked_rows,
  (select {comparison} from dinnerbell.service) as comparison,
  (select notifications_id from dinnerbell.service) as notifications_id,
  (select dead_letters_id from dinnerbell.service) as dead_letters_id
