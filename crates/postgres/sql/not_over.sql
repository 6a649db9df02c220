-- Reads the campaigns of which somebody could be told again, or counted as not told: open or scheduled ones, those of a round that may not be
-- published yet, and those that are still to be counted.
-- Locks: none; all lanes are locked before, in the same transaction.
-- Index: the primary key of campaign, in its order; all campaigns are looked at.
select adv_campaign_id, told + kept as told
from dinnerbell.campaign c
where (state in ('scheduled', 'active', 'complete')
    or (unsent is null and state in ('expired', 'closed', 'cancelled') and restaurant_id is not null)
    or exists (select from dinnerbell.round_part p join dinnerbell.lane l using (lane, seq)
               where p.adv_campaign_id = c.adv_campaign_id and p.drafts > 0 and seq > coalesce(published_seq, -1)))
order by adv_campaign_id
