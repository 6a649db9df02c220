-- The rounds of a campaign: when it was told, and in which round whom. It has no order, so that no statement reads all of it for one.
create index if not exists round_part_of_campaign on dinnerbell.round_part using hash (adv_campaign_id);
-- Campaigns in the order in which lists show them.
create index if not exists campaign_received on dinnerbell.campaign (received_at, adv_campaign_id);
-- When its newest version came, and when the last page of its main pass was known to be published; null where an earlier version wrote it.
alter table dinnerbell.campaign
    add column if not exists updated_at timestamptz,
    add column if not exists completed_at timestamptz;
