-- Every question that a lane asks is answered by an index that holds only what is open, however much has ended. No index repeats what the
-- primary key says, and none has the cursor in it: pages move it all the time.

-- Scheduled campaigns by their start.
create index campaign_scheduled on dinnerbell.campaign (lane, adv_campaign_datetime_start) where state = 'scheduled';
-- Open campaigns by their end, by their id, by their restaurant, and by their re-pass.
create index campaign_ends on dinnerbell.campaign (lane, adv_campaign_datetime_end) where state in ('active', 'complete');
create index campaign_open on dinnerbell.campaign (lane, adv_campaign_id) where state in ('active', 'complete');
drop index dinnerbell.campaign_of_restaurant;
create index campaign_of_restaurant on dinnerbell.campaign (restaurant_id, lane) where state in ('active', 'complete');
-- Those whose main pass goes on, and those whose last page waits to be published.
create index campaign_main_pass on dinnerbell.campaign (lane, last_page_seq) where state = 'active';
-- It led through all scheduled and open campaigns of a lane for each of these questions.
drop index dinnerbell.campaign_of_lane;

-- Changes in the order in which they are judged.
drop index dinnerbell.change_unjudged;
create index change_unjudged on dinnerbell.change (id) where judged_as is null;
create index change_of_campaign on dinnerbell.change (adv_campaign_id);

-- What is pruned, oldest first.
create index campaign_ended on dinnerbell.campaign (adv_campaign_datetime_end) where state in ('closed', 'expired', 'cancelled');
create index campaign_tombstone on dinnerbell.campaign (cancelled_at) where restaurant_id is null;
create index change_judged on dinnerbell.change (judged_at) where judged_as is not null;
create index dead_letter_arrived on dinnerbell.dead_letter (arrived_at);
create index round_recorded on dinnerbell.round (recorded_at);
-- Who had a row before: kept as long as the campaign, since `verify` needs it.
create index round_part_told_before on dinnerbell.round_part (adv_campaign_id) where already_told <> '{}';

-- Rows come, change and go all the time: dead ones are cleared away before they are a fifth of what was kept.
alter table dinnerbell.campaign set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
alter table dinnerbell.round set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
alter table dinnerbell.round_part set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
alter table dinnerbell.change set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
alter table dinnerbell.dead_letter set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
