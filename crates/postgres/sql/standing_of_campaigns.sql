-- Reads how campaigns stand that {which} picks out of dinnerbell.campaign, and what keeps them from being told.
-- Locks: none.
-- Index: what {which} says; the primary key of lane.
select c.adv_campaign_id, c.restaurant_id, c.state, c.cursor, c.last_page_seq is not null as main_pass_over, c.lane, l.halted,
  c.adv_campaign_datetime_start, c.adv_campaign_datetime_end, {now} as now, c.told,
  {micros(c.received_at)} as received_at,
  exists (select from dinnerbell.service where paused_at is not null) as paused, {held} as held
from (select * from dinnerbell.campaign where {which}) c left join dinnerbell.lane l using (lane)
order by c.received_at desc, c.adv_campaign_id desc
