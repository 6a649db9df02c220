-- Deletes those of a lane's locked rows that are free by now, of at most $4 behind campaign $2 and client $3; not those in which somebody
-- answered. The number of the transaction that locks a row stands in it; one that several have locked does not show.
-- Locks: the campaigns, in the order of their ids, then the rows.
-- Index: the primary keys of locked_row and campaign, and our unique index of the feedback table.
with
  due as (
    select w.adv_campaign_id as id, w.client_id as client, w.trigger_datetime_created as formed
    from dinnerbell.locked_row w join dinnerbell.campaign c using (adv_campaign_id)
    where c.lane = $1 and (w.adv_campaign_id, w.client_id) > ($2::text collate "C", $3::text collate "C")
    order by w.adv_campaign_id, w.client_id limit $4),
  held as materialized (
    select c.adv_campaign_id as id from dinnerbell.campaign c where c.adv_campaign_id in (select id from due)
    order by c.{by_id} for no key update of c),
  active as materialized (
    select coalesce(array_agg(l.transactionid), '{}') as ids from pg_locks l where l.locktype = 'transactionid' and l.granted),
  gone as (
    delete from {feedback} using due join held using (id)
    where {of_campaign(adv_campaign_id, due.id)} and client_id collate "C" = due.client and {short_ids}
      and feedback is null and trigger_datetime_created = due.formed
      and (xmax = 0 or xmax <> all((select ids from active)::xid[]))
    returning 1)
select count(*) from gone
