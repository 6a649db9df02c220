-- Finds the next start or end of a campaign of a lane. Where one is over already, somebody held the campaign's row: it is asked for again in a
-- second.
-- Locks: none.
-- Index: campaign_scheduled and campaign_ends: of each the first in its order.
select least(
  (select greatest(adv_campaign_datetime_start, {now_once} + 1) from dinnerbell.campaign
   where lane = $1 and state = 'scheduled'
   order by adv_campaign_datetime_start limit 1),
  (select adv_campaign_datetime_end from dinnerbell.campaign
   where lane = $1 and state in ('active', 'complete') and adv_campaign_datetime_end > {now_once}
   order by adv_campaign_datetime_end limit 1),
  (select {now_once} + 1 from dinnerbell.lane l
   where lane = $1 and exists (select from dinnerbell.campaign where lane = l.lane and {ends}))) as next_change
