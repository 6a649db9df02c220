-- Moves cursors and counts where every campaign of the round still stands as it was planned. Gives which did.
-- Locks: the campaigns, in the order of their ids.
-- Index: the primary key of campaign. The planner sees nothing of what is asked beside the id (the coalesce): without statistics it would go
-- through all that is open for each part.
update dinnerbell.campaign c set
  cursor = case when p.has_page then p.upto else c.cursor end,
  last_page_seq = case when p.last then $2 else c.last_page_seq end,
  told = told + p.drafts, late = c.late + json_array_length(p.late), skipped = c.skipped + p.skipped,
  audience_as_of = case when p.has_page then clock_timestamp() else audience_as_of end,
  repass_at = case when p.has_page and (p.after is null or (p.last and repass_at > {now}))
    then {rescan_at(told + p.drafts)} else repass_at end,
  first_draft_at = coalesce(first_draft_at, case when p.drafts > 0 then clock_timestamp() end),
  last_draft_at = case when p.drafts > 0 then clock_timestamp() else last_draft_at end
from (select * from {parts_of_round} order by id) as p
where c.adv_campaign_id = p.id
  and coalesce(c.lane = $3 and c.revision = p.revision and c.state in ('active', 'complete') and {open}
    and (not p.has_page or (c.cursor is not distinct from p.after and c.last_page_seq is null)), false)
returning c.adv_campaign_id
