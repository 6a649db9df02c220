-- Inserts, raw, what arrived about campaigns of other lanes: the records are $2 to $5, their headers $6 to $8.
-- Locks: the new rows.
-- Index: none is asked.
insert into dinnerbell.change (from_lane, record_offset, record_timestamp, key, value, header_names, header_values,
  adv_campaign_id)
select $1, record_offset, record_timestamp, key, value, coalesce(h.names, '{}'), coalesce(h.vals, '{}'), adv_campaign_id
from unnest($2::int8[], $3::int8[], $4::bytea[], $5::bytea[], $9::text[])
  with ordinality as t (record_offset, record_timestamp, key, value, adv_campaign_id, place)
left join {headers_of_records} h on h.record = t.place
order by t.place
