-- Asks what waits for the lanes of this instance: changes to judge, rescans that are due, and lanes that are its own no more.
-- Locks: none; it reads only.
-- Index: change_unjudged and the primary key of campaign, a lookup for each change (a join could read all campaigns that there ever were);
-- campaign_repass, in its order (of any other index of the lane all that is open would be gone through).
select
  array(select distinct lane
        from (select (select c.lane from dinnerbell.campaign c where c.adv_campaign_id = ch.adv_campaign_id) as lane
              from dinnerbell.change ch where ch.judged_as is null) owner
        where lane = any($1)) as changes,
  array(select lane from unnest($1) as l (lane)
        where (select true from dinnerbell.campaign c
               where c.lane = l.lane and repass_at <= {now_once} and {open} and {rescan_is_due}
               order by repass_at limit 1)) as rescans,
  array(select mine.lane
        from unnest($1, $2::int8[], $3::int8[]) as mine (lane, epoch, postmaster)
        left join dinnerbell.lane l on l.lane = mine.lane
        where l.epoch is distinct from mine.epoch
          or not {untouched(l)}
          or mine.postmaster <> {postmaster}
          or not {feedback_is_known($4)}
          or exists (select from dinnerbell.service
                     where compared <> {comparison} and l.compared is distinct from {comparison})) as taken
