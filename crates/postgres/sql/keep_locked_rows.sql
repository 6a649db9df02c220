-- Records which rows of the parts $3 of round $2 of lane $1 were not deleted, though nobody answered in them: somebody's open transaction has them
-- locked. Counts them by part, and says whether one was formed this very second.
-- Locks: the new rows of locked_row.
-- Index: as rows_of_parts.sql.
with
  remain as (
    select r.part, r.id, r.client_id, r.formed from ({rows}) as r (part, id, client_id, formed, unanswered)
    where r.part = any($3) and r.unanswered),
  noted as (
    insert into dinnerbell.locked_row (adv_campaign_id, client_id, trigger_datetime_created)
    select id, client_id, formed from remain
    on conflict (adv_campaign_id, client_id) do update
      set trigger_datetime_created = excluded.trigger_datetime_created, locked_at = excluded.locked_at)
select part, count(*) as rows, bool_or(formed >= {now}) as young from remain group by part
