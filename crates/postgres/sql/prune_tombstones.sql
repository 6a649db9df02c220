-- Removes tombstones of campaigns that never came; how many.
-- Locks: the campaigns, but for those that somebody else has locked.
-- Index: campaign_tombstone, change_of_campaign.
with
  old as (
    select c.adv_campaign_id from dinnerbell.campaign c
    where c.restaurant_id is null and c.state = 'cancelled'
      and c.cancelled_at < (select clock_timestamp() - make_interval(secs => $1))
      and not exists (select from dinnerbell.change ch
                      where ch.adv_campaign_id = c.adv_campaign_id and ch.judged_as is null)
    order by c.cancelled_at limit $2 for update of c skip locked),
  gone as (
    delete from dinnerbell.campaign c using old where c.adv_campaign_id = old.adv_campaign_id returning 1)
select count(*) from gone
