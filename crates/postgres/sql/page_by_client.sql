-- Reads the same page as page.sql, and enters the index again behind each client: rows that one client has beyond the first cost nothing.
-- Locks: none.
-- Index: dinnerbell_audience of the subscribers table.
with recursive page (client, place) as (
  select first.client, 1::int8 from ({first}) as first
  union all
  select next.client, page.place + 1
  from page cross join lateral ({next}) as next
  where page.place < ($3::int8[])[1])
select client from page
