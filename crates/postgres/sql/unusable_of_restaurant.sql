-- Reads the ids of a restaurant's clients ($1) that are in no page: too long, of which the beginning is read, or empty. At most $2.
-- Locks: none.
-- Index: each half has its own, dinnerbell_skipped and dinnerbell_audience of the subscribers table.
(select distinct left(client_id, {longest_id}) as client from {subscribers}
 where restaurant_id = $1 and {long_favourite}{and_legible} limit $2)
union all
(select distinct client_id::text as client from {subscribers}
 where restaurant_id = $1 and client_id collate "C" = '' and {short_favourite} limit 1)
