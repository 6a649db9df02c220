-- Reads the pages of campaign $1 that were withdrawn, at most $2.
-- Locks: none.
-- Index: round_part_of_campaign, the primary key of round.
select coalesce(p.after_client, '') as behind, p.upto_client as upto
from dinnerbell.round_part p join dinnerbell.round r using (lane, seq)
where p.adv_campaign_id = $1 and p.drafts = 0 and not p.has_page and p.upto_client is not null and r.revision > 0
limit $2
