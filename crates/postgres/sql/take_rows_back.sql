-- Takes rows of open campaigns of a lane back, unless somebody answered in them: the rows go, the counts follow, and the campaigns are to be
-- rescanned. Gives how many went, by campaign.
-- Locks: the campaigns, in the order of their ids, then the rows. The lane's row is locked before.
-- Index: the primary keys of the feedback table and of campaign.
with
  open as (
    select adv_campaign_id from dinnerbell.campaign
    where lane = $1 and state in ('active', 'complete') and adv_campaign_datetime_end > {now}
      and adv_campaign_id in (select adv_campaign_id collate "C" from {feedback} where id = any($2))
    order by adv_campaign_id for update),
  gone as (
    delete from {feedback} f using open o
    where f.id = any($2) and f.feedback is null and f.adv_campaign_id collate "C" = o.adv_campaign_id
    returning f.adv_campaign_id collate "C" as adv_campaign_id),
  counted as (select adv_campaign_id, count(*) as drafts from gone group by 1)
update dinnerbell.campaign c
set told = c.told - g.drafts, late = least(c.late, c.told - g.drafts), repass_at = 0
from counted g
where c.adv_campaign_id = g.adv_campaign_id
returning g.drafts
