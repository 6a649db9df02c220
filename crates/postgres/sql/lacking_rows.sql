-- Counts for each of many campaigns the rows of a table that another one lacks; those of which it lacks none are left out.
-- Locks: none; all lanes are locked before, in the same transaction.
-- Index: our unique index, of both tables.
select w.place, lacking.rows
from unnest($1::text[]) with ordinality as w(id, place)
cross join lateral (
  select count(*) as rows from {from} f
  where {of_campaign(f.adv_campaign_id, w.id)}
    and octet_length(f.adv_campaign_id) <= 256 and octet_length(f.client_id) <= 256
    and not exists (
      select from {to} t
      where {of_campaign(t.adv_campaign_id, w.id)} and t.client_id collate "C" = f.client_id collate "C"
        and octet_length(t.adv_campaign_id) <= 256 and octet_length(t.client_id) <= 256)) as lacking
where lacking.rows > 0
