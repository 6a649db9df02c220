-- Counts what a campaign got back: as many as it has rows, at most.
-- Locks: the campaign.
-- Index: the primary key of campaign.
update dinnerbell.campaign set told = least(told + $2, greatest(told, $5 - kept
  - (select count(*) from dinnerbell.locked_row w where w.adv_campaign_id = $1))), unsent = null,
  first_draft_at = least(first_draft_at, to_timestamp($3)), last_draft_at = greatest(last_draft_at, to_timestamp($4))
where adv_campaign_id = $1 and $2 > 0
