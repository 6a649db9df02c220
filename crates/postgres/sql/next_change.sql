-- Finds the next start or end of a campaign of a lane.
-- Locks: none.
-- Index: campaign_scheduled and campaign_ends: of each the first in its order.
select least(
  (select adv_campaign_datetime_start from dinnerbell.campaign
   where lane = $1 and state = 'scheduled'
   order by adv_campaign_datetime_start limit 1),
  (select adv_campaign_datetime_end from dinnerbell.campaign
   where lane = $1 and state in ('active', 'complete') and adv_campaign_datetime_end > {now_once}
   order by adv_campaign_datetime_end limit 1)) as next_change
