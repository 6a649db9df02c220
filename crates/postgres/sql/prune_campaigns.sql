-- Removes campaigns that are long over, with what their parts say of who had a row before; how many. A cancelled one is kept as long as a
-- tombstone, at least. One that a lane's last rounds hold is needed to publish them again, and one of
-- which rows are still to be withdrawn to count them.
-- Locks: the campaigns, but for those that somebody else has locked.
-- Index: campaign_ended, change_of_campaign, round_part_told_before, the primary key of locked_row.
with
  old as (
    select c.adv_campaign_id from dinnerbell.campaign c
    where c.state in ('closed', 'expired', 'cancelled')
      and c.adv_campaign_datetime_end < (select floor(extract(epoch from clock_timestamp()))::int8 - $1)
      and (c.cancelled_at is null or c.cancelled_at < (select clock_timestamp() - make_interval(secs => $1)))
      and not exists (select from dinnerbell.change ch
                      where ch.adv_campaign_id = c.adv_campaign_id and ch.judged_as is null)
      and not exists (select from dinnerbell.lane l
                      join dinnerbell.round_part p on p.lane = l.lane and p.seq >= l.seq - 1
                      where p.adv_campaign_id = c.adv_campaign_id)
      and not exists (select from dinnerbell.locked_row w where w.adv_campaign_id = c.adv_campaign_id)
    order by c.adv_campaign_datetime_end limit $2 for update of c skip locked),
  parts as (
    delete from dinnerbell.round_part p using old
    where p.adv_campaign_id = old.adv_campaign_id and p.already_told <> '{}'),
  gone as (
    delete from dinnerbell.campaign c using old where c.adv_campaign_id = old.adv_campaign_id returning 1)
select count(*) from gone
