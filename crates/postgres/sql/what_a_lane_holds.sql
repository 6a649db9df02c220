-- Counts what a lane holds: campaigns, changes that nobody has judged, and dead letters that are still to be published.
-- Locks: none; the lane's row and its campaigns are locked before, where they are to be moved.
-- Index: change_unjudged and dead_letter_unpublished. The campaigns of a lane have none: it is a scan.
select
  (select count(*) from dinnerbell.campaign where lane = $1) as campaigns,
  (select count(*) from dinnerbell.change ch join dinnerbell.campaign c using (adv_campaign_id)
   where ch.judged_as is null and c.lane = $1) as changes,
  (select count(*) from dinnerbell.dead_letter where lane = $1 and round_seq is null) as dead_letters
