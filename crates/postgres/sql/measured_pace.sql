-- Reads the drafts a second of large rounds that followed one another in the same campaign: the median; null where there were none.
-- Locks: none.
-- Index: the primary keys of round and round_part.
select percentile_cont(0.5) within group (order by r.drafts / extract(epoch from r.recorded_at - b.recorded_at)::float8)
from dinnerbell.lane l
join dinnerbell.round r on r.lane = l.lane and r.seq > l.seq - 200
join dinnerbell.round b on b.lane = r.lane and b.seq = r.seq - 1
where r.drafts >= 1000 and r.recorded_at > b.recorded_at and exists (
  select from dinnerbell.round_part p join dinnerbell.round_part q using (lane, adv_campaign_id)
  where p.lane = r.lane and p.seq = r.seq and q.seq = b.seq and p.has_page and q.has_page)
