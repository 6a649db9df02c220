-- Reads the open campaigns of some restaurants behind an id, without their texts, in the order of restaurants and ids.
-- Locks: none; it reads only.
-- Index: campaign_of_restaurant, from the first one that is wanted, and no further than $4 of each restaurant: one may have thousands.
select adv_campaign_id, restaurant_id, cursor, last_page_seq is not null as main_pass_over,
  octet_length(restaurant_id) + octet_length(adv_campaign_id) + octet_length(adv_campaign_content)
    + octet_length(adv_campaign_owner) + octet_length(adv_campaign_owner_contact) as texts,
  told
from unnest($2::text[]) as r (id) cross join lateral (
  select * from dinnerbell.campaign
  where (restaurant_id, lane, adv_campaign_id) > (r.id, $1::int4, coalesce($3::text, '')) and (restaurant_id, lane) <= (r.id, $1::int4)
    and state in ('active', 'complete') and {open}
  order by restaurant_id, lane, adv_campaign_id limit $4) as campaign
order by restaurant_id collate "C", adv_campaign_id collate "C"
limit $4
