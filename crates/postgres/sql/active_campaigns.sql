-- Reads the campaigns that these ids name, those of the lane that are open.
-- Locks: none.
-- Index: the primary key of campaign.
select revision, cursor, {campaign}
from dinnerbell.campaign
where adv_campaign_id = any($1) and lane = $2 and state in ('active', 'complete') and {open}
