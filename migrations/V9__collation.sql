-- Ids are compared as bytes, as those of clients are: the order of a collation changes with its library, and an index in the old order misses what is
-- there. No row is written anew; the indexes on these columns are. Lanes first, as everyone locks them.
lock table dinnerbell.lane in access exclusive mode;
alter table dinnerbell.campaign
    alter column adv_campaign_id type text collate "C",
    alter column restaurant_id type text collate "C";
alter table dinnerbell.change alter column adv_campaign_id type text collate "C";
alter table dinnerbell.round_part alter column adv_campaign_id type text collate "C";
