-- Picks from a list of clients the first who have no feedback row of a campaign, in the order of the list.
-- Locks: none.
-- Index: our unique index of the feedback table.
select c from unnest($2::text[]) with ordinality as t (c, place)
where not exists (
  select from {feedback}
  where {of_campaign(adv_campaign_id, $1)} and client_id collate "C" = c collate "C" and {short_ids})
order by place limit $3
