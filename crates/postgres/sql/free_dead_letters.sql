-- The dead letters of a round wait for a later one.
-- Locks: the dead letters.
-- Index: the primary keys of round and dead_letter.
update dinnerbell.dead_letter d set round_seq = null
from dinnerbell.round r
where r.lane = $1 and r.seq = $2 and d.id = any(r.dead_letters)
