-- Notes up to which id the newest subscribers are scanned. Says whether every lane of the owner has it noted now.
-- Locks: the lanes' rows, but for those that somebody else has locked: nobody waits for this, and it for nobody.
-- Index: the primary key of lane.
with
  free as (
    select lane from dinnerbell.lane
    where lane = any($1) and owner = $3 and swept_to is distinct from $2
    for update skip locked),
  noted as (
    update dinnerbell.lane l set {written}, swept_to = $2 from free where l.lane = free.lane returning l.lane)
select not exists (
  select from dinnerbell.lane
  where lane = any($1) and owner = $3 and swept_to is distinct from $2
    and lane not in (select lane from noted)) as all_noted
