-- Finds the round that holds the draft of client $2 for each of campaigns $1, formed at $3, by the campaign's place. Of a round that is not kept
-- any more nothing is found.
-- Locks: none.
-- Index: round_part_of_campaign, the primary keys of round and lane.
select a.place, r.lane, r.seq, r.recorded_at, r.late, r.published
from unnest($1::text[], $3::int8[]) with ordinality as a(id, formed, place)
cross join lateral (
  select r.lane, r.seq, {micros(r.recorded_at)} as recorded_at, $2 = any(p.late) as late,
    r.seq <= coalesce(l.published_seq, -1) as published
  from dinnerbell.round_part p join dinnerbell.round r using (lane, seq) join dinnerbell.lane l on l.lane = r.lane
  where p.adv_campaign_id = a.id and p.drafts > 0 and r.trigger_datetime_created = a.formed
    and (p.has_page and coalesce(p.after_client, '') < $2 and p.upto_client >= $2 and $2 <> all(p.already_told) or $2 = any(p.late))
  order by r.recorded_at desc limit 1) as r
