-- Ends the hold, if so many lanes were found whole in the comparison that stands.
-- Locks: the row of service, which is locked already.
-- Index: the primary key of lane.
update dinnerbell.service set compared = $1
where $1 = {comparison} and compared is distinct from $1
  and (select count(*) from dinnerbell.lane l where l.lane < $2 and l.compared = $1) >= $2
