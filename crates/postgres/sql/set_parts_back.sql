-- Puts the counts and cursors of some parts' campaigns back to where they stood before the round. Of each part so many rows are kept.
-- Locks: the campaigns.
-- Index: the primary keys of round_part and campaign.
update dinnerbell.campaign c set
  told = told - p.drafts, late = c.late - cardinality(p.late), skipped = c.skipped - p.skipped, kept = c.kept + k.kept,
  cursor = case when p.has_page then p.after_client else cursor end,
  last_page_seq = case when p.has_page then null else last_page_seq end,
  unsent = null,
  state = {state_after(p.has_page)}
from dinnerbell.round_part p join unnest($3::int4[], $4::int8[]) as k (part, kept) using (part)
where p.lane = $1 and p.seq = $2 and c.adv_campaign_id = p.adv_campaign_id
