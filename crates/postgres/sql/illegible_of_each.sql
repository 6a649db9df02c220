-- Counts for each range of a restaurant's clients, by its place, those whose ids cannot be read.
-- Locks: none.
-- Index: dinnerbell_audience of the subscribers table.
select w.place, (
  select count(distinct client_id) from {subscribers}
  where restaurant_id = w.restaurant and client_id collate "C" > w.behind
    and (w.upto is null or client_id collate "C" <= w.upto)
    and {short_favourite} and not ({legible}))
from unnest($1::text[], $2::text[], $3::text[]) with ordinality as w(restaurant, behind, upto, place)
