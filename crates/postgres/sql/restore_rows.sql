-- Inserts the rows of drafts that have none, from their messages. Gives the campaign of each.
-- Locks: the new rows, in the order of campaigns and clients.
-- Index: our unique index of the feedback table.
insert into {feedback} ({draft_columns}, feedback)
select distinct on (adv_campaign_id, client_id) {draft_columns}, null
from {drafts_of_messages}
where not exists (
  select 1 from {feedback} f
  where {of_campaign(f.adv_campaign_id, t.adv_campaign_id)} and f.client_id collate "C" = t.client_id
    and octet_length(f.adv_campaign_id) <= 256 and octet_length(f.client_id) <= 256)
order by adv_campaign_id, client_id
returning adv_campaign_id
