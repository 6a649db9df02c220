-- Reads the changes that a lane judges next: cancellations first, in the order of their arrival; bounded by their number, $2, and their
-- bytes, $3. What does not fit is not read for that: its sizes are known without its bytes.
-- Locks: none; the lane's row is locked before, in the same transaction.
-- Index: change_unjudged, and the primary key of campaign.
select id, from_lane, record_offset, record_timestamp, key, value, header_names, header_values, changes
from (select w.*, count(*) over () as changes, {change_size} as size,
        sum({change_size}) over (order by value is not null, id) as upto
      from ((({waiting_changes} and ch.value is null order by ch.id limit $2)
             union all ({waiting_changes} and ch.value is not null order by ch.id limit $2))
            limit $2) w) s
where upto - size < $3
