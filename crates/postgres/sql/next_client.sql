-- Reads the first client of restaurant $1 behind a client. A part of page_by_client.sql.
-- Locks: none.
-- Index: dinnerbell_audience of the subscribers table, entered again.
select client_id::text collate "C" as client
from {subscribers}
where restaurant_id = ($1::text[])[1] and client_id collate "C" > {after}
  and (($4::text[])[1] is null or client_id collate "C" <= ($4::text[])[1])
  and {short_favourite}{and_legible}
order by client_id collate "C" limit 1
