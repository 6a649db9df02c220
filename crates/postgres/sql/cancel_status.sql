-- Reads how far the cancellation of a campaign is. Only a lane's last round can be unpublished.
-- Locks: none.
-- Index: the primary keys of campaign, lane and round_part.
select c.restaurant_id, c.state, c.told, c.late, {micros(c.cancelled_at)}, c.lane,
  exists (
    select from dinnerbell.lane u join dinnerbell.round_part p on p.lane = u.lane and p.seq = u.seq
    where u.published_seq is distinct from u.seq and p.adv_campaign_id = c.adv_campaign_id and p.drafts > 0),
  l.halted, l.owner, exists (select from dinnerbell.service where paused_at is not null)
from dinnerbell.campaign c
left join dinnerbell.lane l on l.lane = c.lane
where c.adv_campaign_id = $1
