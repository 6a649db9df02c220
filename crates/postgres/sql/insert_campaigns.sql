-- Inserts those of these campaigns that nobody has inserted; a tombstone as the cancelled campaign. Gives their ids.
-- Locks: the new rows, in the order of their ids.
-- Index: the primary key of campaign decides a race between lanes.
insert into dinnerbell.campaign (lane, state, received_offset, cancelled_at, {campaign})
select $1, state, received_offset, case when state = 'cancelled' then clock_timestamp() end, {campaign}
from unnest($2::text[], $3::int8[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int8[], $10::int8[], $11::int8[])
  as t (state, received_offset, {campaign})
order by adv_campaign_id
on conflict do nothing
returning adv_campaign_id
