-- Reads the campaigns of `page`, with the drafts of the last ten seconds where they are active. Only a lane's latest rounds are read.
-- Locks: none.
-- Index: that of `page`; the primary keys of round and round_part.
with page as ({page}),
recent as (
  select p.adv_campaign_id, sum(p.drafts)::int8 as drafts
  from dinnerbell.lane l
  join dinnerbell.round r on r.lane = l.lane and r.seq > l.seq - 1000 and r.recorded_at > clock_timestamp() - interval '10 seconds'
  join dinnerbell.round_part p on p.lane = r.lane and p.seq = r.seq
  where l.lane in (select lane from page where state = 'active')
  group by 1)
select {columns} from page left join recent using (adv_campaign_id)
order by received_at desc, adv_campaign_id desc
