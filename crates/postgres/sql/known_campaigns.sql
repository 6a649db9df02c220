-- Reads the campaigns that these ids name, of the lanes that {which} says, and locks them as it says.
-- Locks: the campaigns, in the order of their ids: own ones for a change, others' only against being removed.
-- Index: the primary key of campaign.
select lane, state = 'cancelled' as cancelled, last_page_seq is not null as has_last_page,
  {last_page_unpublished} as last_page_unpublished, {campaign}
from dinnerbell.campaign left join dinnerbell.lane l using (lane)
where adv_campaign_id = any($1) and {which} of campaign
