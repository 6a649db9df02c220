-- Finds for each question, by its place, who of its clients ($6, from first to last) is at or before the cursor and has no feedback row.
-- Locks: none.
-- Index: our unique index of the feedback table, a lookup for each client.
select q.place, c.client
from unnest($1::text[], $2::text[], $3::bool[], $4::int4[], $5::int4[]) with ordinality
  as q(id, cursor, over, first, last, place)
cross join lateral unnest(($6::text[])[q.first:q.last]) as c(client)
where (q.over or c.client collate "C" <= q.cursor)
  and not exists (
    select from {feedback}
    where {of_campaign(adv_campaign_id, q.id)} and client_id collate "C" = c.client collate "C" and {short_ids})
order by 1, c.client collate "C"
