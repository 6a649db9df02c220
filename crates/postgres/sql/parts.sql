-- Reads the parts of round $2 of lane $1, with what became of their campaigns.
-- Locks: none.
-- Index: the primary keys of round_part and campaign.
select p.part, p.adv_campaign_id, p.has_page, p.after_client, p.skipped, p.late, p.drafts, p.checksum,
  coalesce({open}, false) as open, state = 'cancelled' as cancelled, adv_campaign_datetime_start, adv_campaign_datetime_end
from dinnerbell.round_part p join dinnerbell.campaign c using (adv_campaign_id)
where p.lane = $1 and p.seq = $2
order by p.adv_campaign_id
