-- Reads many pages, each as page.sql reads one: its limit keeps the planner from making one scan of them.
-- Locks: none.
-- Index: dinnerbell_audience of the subscribers table.
select w.place, page.client
from unnest($1::text[], $2::text[], $3::int8[], $4::text[]) with ordinality as w(restaurant, behind, most, upto, place)
cross join lateral ({page}) as page
order by 1, 2
