-- Finds the feedback row of client $2 for each of campaigns $1, by the campaign's place.
-- Locks: none.
-- Index: our unique index of the feedback table, campaign by campaign: the limit keeps the planner from making one scan of them.
select a.place, told.formed, told.answered
from unnest($1::text[]) with ordinality as a(id, place)
cross join lateral (
  select trigger_datetime_created::int8 as formed, feedback is not null as answered from {feedback}
  where {of_campaign(adv_campaign_id, a.id)} and client_id collate "C" = $2 and {short_ids}
  limit 1) as told
