-- Finds which of campaigns $1 withdrew a page on which client $2 stood, by the campaign's place. Of those who were late the names are gone.
-- Locks: none.
-- Index: round_part_of_campaign, the primary key of round.
select a.place
from unnest($1::text[]) with ordinality as a(id, place)
where exists (
  select from dinnerbell.round_part p join dinnerbell.round r using (lane, seq)
  where p.adv_campaign_id = a.id and p.drafts = 0 and not p.has_page and r.revision > 0
    and coalesce(p.after_client, '') < $2 and p.upto_client >= $2)
