-- Sets when rescanned campaigns are to be rescanned again, unless they changed meanwhile.
-- Locks: the campaigns, in the order of their ids.
-- Index: the primary key of campaign.
update dinnerbell.campaign c set repass_at = {rescan_at(told)}
from (select c.adv_campaign_id as id, c.revision
      from unnest($1::text[], $2::int4[]) as p (id, revision)
      join dinnerbell.campaign c on c.adv_campaign_id = p.id and c.revision = p.revision
      order by c.{by_id} for no key update of c) as l
where c.adv_campaign_id = l.id and c.revision = l.revision
