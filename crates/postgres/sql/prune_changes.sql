-- Removes changes that were judged long ago; how many.
-- Locks: the changes, but for those that somebody else has locked.
-- Index: change_judged.
with
  old as (
    select id from dinnerbell.change
    where judged_as is not null and judged_at < (select clock_timestamp() - make_interval(secs => $1))
    order by judged_at limit $2 for update skip locked),
  gone as (delete from dinnerbell.change c using old where c.id = old.id returning 1)
select count(*) from gone
