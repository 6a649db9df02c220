-- Finds who has a feedback row, among the clients of each range, by the range's place.
-- Locks: none.
-- Index: our unique index of the feedback table, range by range: the offset keeps the planner from making one scan of them.
select s.place, told.client_id
from unnest($1::text[], $2::text[], $3::text[]) with ordinality as s(id, behind, upto, place)
cross join lateral (
  select client_id from {feedback}
  where {of_campaign(adv_campaign_id, s.id)}
    and client_id collate "C" > s.behind and client_id collate "C" <= s.upto and {short_ids}
  offset 0) as told
