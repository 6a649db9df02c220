-- Settles and counts a lane's locked rows, at most $4 behind campaign $2 and client $3: those that are gone, and those in which somebody answered.
-- The client of a row that is gone is not told: its campaign's count or rescan finds them. Only with the last rows it says how many the lane has.
-- Locks: the campaigns, which are locked before; the settled rows of locked_row.
-- Index: the primary keys of locked_row and campaign, and our unique index of the feedback table.
with
  due as (
    select w.adv_campaign_id as id, w.client_id as client, w.trigger_datetime_created as formed
    from dinnerbell.locked_row w join dinnerbell.campaign c using (adv_campaign_id)
    where c.lane = $1 and (w.adv_campaign_id, w.client_id) > ($2::text collate "C", $3::text collate "C")
    order by w.adv_campaign_id, w.client_id limit $4),
  states as (
    select due.id, due.client, f.unanswered, f.locked_by
    from due left join lateral (
      select feedback is null as unanswered, xmax::text as locked_by from {feedback}
      where {of_campaign(adv_campaign_id, due.id)} and client_id collate "C" = due.client and {short_ids}
        and trigger_datetime_created = due.formed offset 0) f on true),
  settled as (
    delete from dinnerbell.locked_row w using states s
    where w.adv_campaign_id = s.id and w.client_id = s.client and s.unanswered is not true),
  counts as (
    select id, count(*) filter (where unanswered is null) as gone, count(*) filter (where not unanswered) as kept
    from states where unanswered is not true group by id),
  counted as (
    update dinnerbell.campaign c set kept = c.kept + n.kept,
      unsent = case when n.gone > 0 then null else unsent end,
      repass_at = case when n.gone > 0 and state not in ('expired', 'closed', 'cancelled') then 0 else repass_at end
    from counts n where c.adv_campaign_id = n.id)
select
  (select coalesce(sum(gone), 0)::int8 from counts) as gone,
  (select coalesce(sum(kept), 0)::int8 from counts) as kept,
  case when (select count(*) from due) < $4 then
    (select count(*) from dinnerbell.locked_row w join dinnerbell.campaign c using (adv_campaign_id) where c.lane = $1) end as all_rows,
  (select id from due order by id desc, client desc limit 1) as last_id,
  (select client from due order by id desc, client desc limit 1) as last_client,
  array(select distinct locked_by from states where unanswered and locked_by <> '0' limit 100) as locked_by
