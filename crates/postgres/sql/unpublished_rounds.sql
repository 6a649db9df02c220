-- Reads each lane's last round that is not known to be published and holds anything.
-- Locks: none.
-- Index: the primary keys of lane and round.
select l.lane, l.seq, r.drafts
from dinnerbell.lane l join dinnerbell.round r using (lane, seq)
where l.published_seq is distinct from l.seq and (r.drafts > 0 or r.dead_letters <> '{}')
order by l.lane
