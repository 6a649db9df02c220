-- Removes orders that were given long ago; how many.
-- Locks: the orders, but for those that somebody else has locked.
-- Index: audit_at.
with
  old as (
    select id from dinnerbell.audit where at < (select clock_timestamp() - make_interval(secs => $1))
    order by at limit $2 for update skip locked),
  gone as (delete from dinnerbell.audit a using old where a.id = old.id returning 1)
select count(*) from gone
