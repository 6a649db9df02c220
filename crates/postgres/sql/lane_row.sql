-- Reads a lane with its last two rounds.
-- Locks: none.
-- Index: the primary keys of lane and round.
select l.position, l.seq, l.published_seq, l.halted, r.revision, r.checksum, r.trigger_datetime_created,
  coalesce(l.compared = (select {comparison} from dinnerbell.service), false) as compared,
  p.revision as previous_revision, p.checksum as previous_checksum
from dinnerbell.lane l
left join dinnerbell.round r on r.lane = l.lane and r.seq = l.seq
left join dinnerbell.round p on p.lane = l.lane and p.seq = l.seq - 1
where l.lane = $1
