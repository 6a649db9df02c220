-- Counts the rows of the subscribers for which nobody can be told, and names the first ones.
-- Locks: none.
-- Index: none; it is a scan of the table.
with bad as materialized (
  select id::int8 as id from {subscribers}
  where {cannot_be_told} or restaurant_id = '' or octet_length(restaurant_id) > {longest_id}{or_illegible})
select (select count(*) from bad) as rows,
  coalesce((select string_agg(id::text, ', ')
            from (select id from bad order by id limit {named}) as first), '') as ids
