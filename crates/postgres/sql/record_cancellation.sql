-- Records an operator's cancellation as a change, unless the campaign is cancelled, or the same change waits already. Returns the campaign's
-- state before, and whether the change was recorded; no row where the campaign is not known.
-- Locks: none.
-- Index: the primary key of campaign; that of the changes of a campaign.
with campaign as (select adv_campaign_id, state from dinnerbell.campaign where adv_campaign_id = $1),
recorded as (
  insert into dinnerbell.change (adv_campaign_id, key, arrived_by)
  select adv_campaign_id, $2, $3 from campaign c
  where state <> 'cancelled' and not exists (
    select from dinnerbell.change ch
    where ch.adv_campaign_id = c.adv_campaign_id and ch.judged_as is null and ch.from_lane is null and ch.value is null)
  returning 1)
select state, exists (select from recorded) from campaign
