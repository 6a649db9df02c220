-- Reads a page: the distinct clients of a restaurant behind a client, in order. DISTINCT costs nothing here: the index gives duplicates side
-- by side, and LIMIT counts what is left. So a page is as long as was asked for, unless it is the last one. The empty client id is never above
-- the cursor, which starts as the empty string.
-- Locks: none.
-- Index: dinnerbell_audience of the subscribers table, in its order.
select distinct client_id::text collate "C" as client
from {subscribers}
where restaurant_id = {restaurant} and client_id collate "C" > {after}
  and ({upto}::text is null or client_id collate "C" <= {upto})
  and {short_favourite}{and_legible}
order by 1 limit {most}
