-- The open campaigns of a restaurant in the order of their ids: newcomers are compared with some of them at a time, behind the last of those before.
drop index if exists dinnerbell.campaign_of_restaurant;
create index campaign_of_restaurant on dinnerbell.campaign (restaurant_id, lane, adv_campaign_id) where state in ('active', 'complete');
