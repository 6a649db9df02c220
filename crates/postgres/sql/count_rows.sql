-- Counts feedback rows of a campaign behind a client, at most $3, and says where it stopped.
-- Locks: none.
-- Index: our unique index of the feedback table, in its order.
select count(*) as rows, max(client) as last
from (select client_id collate "C" as client from {feedback}
      where {of_campaign(adv_campaign_id, $1)} and client_id collate "C" > $2 and {short_ids}
      order by client_id collate "C" limit $3) as counted
