-- Inserts dead letters, raw: their records are $2 to $5, the records' headers $6 to $8. Gives their ids.
-- Locks: the new rows.
-- Index: none is asked.
insert into dinnerbell.dead_letter (lane, record_offset, record_timestamp, key, value, header_names, header_values,
  arrived_lane, reason, field, bytes, left_out, value_size, value_sha256)
select $1, record_offset, record_timestamp, key, value, coalesce(h.names, '{}'), coalesce(h.vals, '{}'),
  arrived_lane, reason, field, bytes, left_out, value_size, value_sha256
from unnest($2::int8[], $3::int8[], $4::bytea[], $5::bytea[],
    $9::int4[], $10::text[], $11::text[], $12::int8[], $13::text[], $14::int8[], $15::bytea[])
  with ordinality as t (record_offset, record_timestamp, key, value,
    arrived_lane, reason, field, bytes, left_out, value_size, value_sha256, place)
left join {headers_of_records} h on h.record = t.place
order by t.place
returning id
