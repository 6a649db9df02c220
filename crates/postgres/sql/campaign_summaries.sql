-- Reads the campaigns of `page`, with the drafts of the last ten seconds where they are active. Only a lane's latest rounds are read.
-- Locks: none.
-- Index: that of `page`; the primary keys of round and round_part, lane by lane and round by round: the offsets keep the planner from beginning
-- with all parts of a lane.
with page as ({page}),
recent as (
  select p.adv_campaign_id, sum(p.drafts)::int8 as drafts
  from (select lane, seq from dinnerbell.lane where lane in (select lane from page where state = 'active') offset 0) l
  cross join lateral (
    select lane, seq from dinnerbell.round
    where lane = l.lane and seq > l.seq - 1000 and recorded_at > clock_timestamp() - interval '10 seconds'
    offset 0) r
  cross join lateral (
    select adv_campaign_id, drafts from dinnerbell.round_part
    where lane = r.lane and seq = r.seq
    offset 0) p
  group by 1)
select {columns} from page left join recent using (adv_campaign_id)
order by received_at desc, adv_campaign_id desc
