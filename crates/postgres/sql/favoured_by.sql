-- Finds which of restaurants $1 client $2 favours, by the restaurant's place.
-- Locks: none.
-- Index: dinnerbell_audience of the subscribers table, restaurant by restaurant: the limit keeps the planner from making one scan of them.
select w.place
from unnest($1::text[]) with ordinality as w(restaurant, place)
cross join lateral (
  select 1 from {subscribers}
  where restaurant_id = w.restaurant and client_id collate "C" = $2 and {short_favourite}
  limit 1) as favoured
