-- Gives campaigns their newest version and state. One that is only cancelled keeps what it shows.
-- Locks: the campaigns, which are locked already.
-- Index: the primary key of campaign.
update dinnerbell.campaign c set revision = revision + t.versions, state = t.state,
  adv_campaign_content = coalesce(t.adv_campaign_content, c.adv_campaign_content),
  adv_campaign_owner = coalesce(t.adv_campaign_owner, c.adv_campaign_owner),
  adv_campaign_owner_contact = coalesce(t.adv_campaign_owner_contact, c.adv_campaign_owner_contact),
  adv_campaign_datetime_start = coalesce(t.adv_campaign_datetime_start, c.adv_campaign_datetime_start),
  adv_campaign_datetime_end = coalesce(t.adv_campaign_datetime_end, c.adv_campaign_datetime_end),
  datetime_created = coalesce(t.datetime_created, c.datetime_created),
  unsent = case when t.datetime_created is null then unsent end,
  repass_at = case when t.datetime_created is null then repass_at else 0 end,
  updated_at = case when t.datetime_created is null then updated_at else clock_timestamp() end,
  cancelled_at = case when t.state = 'cancelled' then clock_timestamp() else cancelled_at end
from unnest($1::int4[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int8[], $9::int8[], $10::int8[])
  as t (versions, state, {campaign})
where c.adv_campaign_id = t.adv_campaign_id
