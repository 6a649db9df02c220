-- Finds the drafts that have no feedback row, or another one than their message says, by their place in the list.
-- Locks: none.
-- Index: our unique index of the feedback table.
select t.place
from unnest($1::text[], $2::text[], $3::int8[], $4::int8[]) with ordinality as t (campaign, client, created, formed, place)
where not exists (
  select 1 from {feedback}
  where {of_campaign(adv_campaign_id, t.campaign)} and client_id collate "C" = t.client and {short_ids}
    and datetime_created = t.created and trigger_datetime_created = t.formed)
