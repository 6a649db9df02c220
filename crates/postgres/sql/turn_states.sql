-- Starts scheduled campaigns whose start has come, and ends those whose end has. One whose last page is recorded and not yet known to be
-- published stays active until it is.
-- Locks: the campaigns that start or end, in the order of their ids. One that somebody else holds is passed over, so that it holds up no other
-- campaign: next_change.sql has it asked for again a second later.
-- Index: campaign_scheduled and campaign_ends, each by itself: what is neither to start nor to end is not looked at.
update dinnerbell.campaign c set state = case
  when last_page_seq is null then case when adv_campaign_datetime_end <= {now} then 'expired' else 'active' end
  when {last_page_unpublished} then 'active'
  when adv_campaign_datetime_end <= {now} then 'closed' else 'complete' end
from (select c.adv_campaign_id as id, l.published_seq
      from (select published_seq,
              array(select adv_campaign_id from dinnerbell.campaign where lane = l.lane and {starts})
              || array(select adv_campaign_id from dinnerbell.campaign where lane = l.lane and {ends}) as ids
            from dinnerbell.lane l where lane = $1 offset 0) as l
      join dinnerbell.campaign c on c.adv_campaign_id = any(l.ids)
      where (c.{starts}) or (c.{ends})
      order by {by_id} for no key update of c skip locked) as l
where c.adv_campaign_id = l.id
