-- Removes old rounds that are published, but for the last two of a lane; how many. A part that says who had a row before stays until its
-- campaign goes.
-- Locks: the rounds, but for those that somebody else has locked.
-- Index: round_recorded.
with
  old as (
    select r.lane, r.seq from dinnerbell.round r join dinnerbell.lane l using (lane)
    where r.recorded_at < (select clock_timestamp() - make_interval(secs => $1))
      and r.seq < l.seq - 1 and r.seq <= l.published_seq
    order by r.recorded_at limit $2 for update of r skip locked),
  parts as (
    delete from dinnerbell.round_part p using old
    where p.lane = old.lane and p.seq = old.seq and p.already_told = '{}'),
  gone as (delete from dinnerbell.round r using old where r.lane = old.lane and r.seq = old.seq returning 1)
select count(*) from gone
