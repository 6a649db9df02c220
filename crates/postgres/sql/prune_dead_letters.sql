-- Removes old dead letters; how many. Where they go to a topic ($3), those that are not published, and those of a lane's last two rounds,
-- are kept.
-- Locks: the dead letters, but for those that somebody else has locked.
-- Index: dead_letter_arrived.
with
  old as (
    select d.id from dinnerbell.dead_letter d left join dinnerbell.lane l using (lane)
    where d.arrived_at < (select clock_timestamp() - make_interval(secs => $1))
      and case when d.round_seq is null then not $3 else d.round_seq < l.seq - 1 and d.round_seq <= l.published_seq end
    order by d.arrived_at limit $2 for update of d skip locked),
  gone as (delete from dinnerbell.dead_letter d using old where d.id = old.id returning 1)
select count(*) from gone
