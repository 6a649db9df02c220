-- Reads the campaigns of a lane whose main pass goes on: those that have no page yet first, then by their ends.
-- Locks: none.
-- Index: campaign_main_pass. The planner does not see the window: the index holds all that is open.
select revision, cursor, {campaign}
from dinnerbell.campaign
where lane = $1 and state = 'active' and last_page_seq is null and coalesce({open}, false)
order by cursor is not null, adv_campaign_datetime_end, adv_campaign_id
limit $2 + 1
