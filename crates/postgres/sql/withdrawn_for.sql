-- Finds which of campaigns $1 withdrew a page on which client $2 stood, by the campaign's place. Of those who were late the names are gone.
-- Locks: none.
-- Index: round_part_of_campaign, campaign by campaign: the limit keeps the planner from making one scan of them. The primary key of round.
select a.place
from unnest($1::text[]) with ordinality as a(id, place)
cross join lateral (
  select 1 from dinnerbell.round_part p
  where p.adv_campaign_id = a.id and p.drafts = 0 and not p.has_page
    and coalesce(p.after_client, '') < $2 and p.upto_client >= $2
    and (select r.revision from dinnerbell.round r where r.lane = p.lane and r.seq = p.seq) > 0
  limit 1) as withdrawn
