-- Reads the dead letters that {which} picks, in the order of their ids. A value that is larger than any record may be was kept by an earlier
-- version; it is only described.
-- Locks: none.
-- Index: the primary key of dead_letter.
select id, arrived_lane, record_offset, key, case when octet_length(value) <= 1048576 then value end as value,
  header_names, header_values, reason, field,
  coalesce(value_size, case when octet_length(value) > 1048576 then octet_length(value) end)::int8 as value_size,
  coalesce(value_sha256, case when octet_length(value) > 1048576 then sha256(value) end) as value_sha256
from dinnerbell.dead_letter
where {which}
order by id
