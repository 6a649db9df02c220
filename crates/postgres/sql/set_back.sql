-- Puts a campaign's counts back by drafts that are none any more, and its cursor where the part moved it ($6).
-- Locks: the campaign.
-- Index: the primary key of campaign.
update dinnerbell.campaign set told = told - $2, late = late - $3, skipped = skipped - $4, kept = kept + $5, unsent = null,
  cursor = case when $6 then $7 else cursor end,
  last_page_seq = case when $6 then null else last_page_seq end,
  state = {state_after($6)}
where adv_campaign_id = $1
