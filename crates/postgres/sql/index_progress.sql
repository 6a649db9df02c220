-- Reads how far the build of an index on a table is.
-- Locks: none.
-- Index: none; it is a view of what the server has in memory.
select phase,
  coalesce(case when phase like 'waiting%' then lockers_done when tuples_total > 0 then tuples_done else blocks_done end, 0) as done,
  coalesce(case when phase like 'waiting%' then lockers_total when tuples_total > 0 then tuples_total else blocks_total end, 0) as total
from pg_stat_progress_create_index
where relid = to_regclass($1) and phase is not null
