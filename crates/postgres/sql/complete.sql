-- Makes campaigns whose last page is in a round up to $2 complete, or closed where their end has come.
-- Locks: the campaigns, in the order of their ids: other lanes' intakes lock what they know of so too. One that somebody else holds is passed
-- over: the next round that is known to be published makes it complete.
-- Index: campaign_main_pass.
update dinnerbell.campaign c
set state = case when adv_campaign_datetime_end <= {now} then 'closed' else 'complete' end, completed_at = clock_timestamp()
from (select adv_campaign_id as id from dinnerbell.campaign
      where lane = $1 and state = 'active' and last_page_seq <= $2
      order by {by_id} for no key update skip locked) as published
where c.adv_campaign_id = published.id
returning state = 'closed' as closed
