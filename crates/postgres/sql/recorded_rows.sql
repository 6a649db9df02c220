-- Says which of these rows a round recorded, as far as the ledger still has the round: those of its page, less who had one before, and those
-- who were late.
-- Locks: none.
-- Index: the primary key of the feedback table. The parts of its campaigns are found by reading all parts once.
with
  told as materialized (
    select id::int8 as id, adv_campaign_id collate "C" as campaign, client_id collate "C" as client
    from {feedback} where id = any($1)),
  parts as materialized (
    select adv_campaign_id, has_page, coalesce(after_client, '') as behind, upto_client, already_told, late
    from dinnerbell.round_part where drafts > 0 and adv_campaign_id in (select campaign from told))
select t.id from told t
where exists (
  select from parts p
  where p.adv_campaign_id = t.campaign
    and (t.client = any(p.late)
      or (p.has_page and t.client > p.behind and t.client <= p.upto_client and t.client <> all(p.already_told))))
