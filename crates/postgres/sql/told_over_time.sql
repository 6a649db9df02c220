-- Reads when drafts of campaign $1 were recorded: the span of its last 50,000 rounds in $2 equal parts, less parts without drafts. The last row has
-- when its main pass was over, and from how many of its rounds drafts were withdrawn.
-- Locks: none.
-- Index: round_part_of_campaign, the primary key of round.
with
  rounds as materialized (
    select extract(epoch from r.recorded_at)::float8 as at, p.drafts, cardinality(p.late) as late, p.last_page, r.revision
    from (select lane, seq, drafts, late, last_page from dinnerbell.round_part
          where adv_campaign_id = $1 order by adv_campaign_id desc, lane desc, seq desc limit 50000) p
    join dinnerbell.round r using (lane, seq)),
  span as (select min(at) as first, greatest(max(at) - min(at), 0.000001) / $2 as step from rounds where drafts > 0),
  parts as (
    select least(floor((at - first) / step), $2 - 1) as part, sum(drafts)::int8 as drafts, sum(late)::int8 as late
    from rounds, span where drafts > 0 group by 1)
select (1000000 * (first + part * step))::int8 as since, (1000000 * (first + (part + 1) * step))::int8 as until, drafts, late,
  null::int8 as main_pass_over, null::int8 as withdrawn
from parts, span
union all
select null, null, null, null, (select (1000000 * max(at))::int8 from rounds where last_page),
  (select count(*) from rounds where revision > 0 and drafts = 0)
order by since nulls last
