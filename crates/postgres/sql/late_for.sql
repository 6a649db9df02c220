-- Reads the open campaigns of some restaurants behind an id, without their texts, in the order of restaurants and ids.
-- Locks: none; it reads only.
-- Index: campaign_of_restaurant.
select adv_campaign_id, restaurant_id, cursor, last_page_seq is not null as main_pass_over,
  octet_length(restaurant_id) + octet_length(adv_campaign_id) + octet_length(adv_campaign_content)
    + octet_length(adv_campaign_owner) + octet_length(adv_campaign_owner_contact) as texts,
  told
from {of_restaurants($2)}
where lane = $1 and state in ('active', 'complete') and {open}
  and ($3::text is null or adv_campaign_id collate "C" > $3)
order by restaurant_id collate "C", adv_campaign_id collate "C"
limit $4
