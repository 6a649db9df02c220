-- Reads by what a table, and each partition in it, is partitioned: whether a unique index on (campaign, client) can hold the key, and which of
-- the two it must hold in the column's own collation.
-- Locks: none.
-- Index: those of the catalogue.
select p.partrelid::regclass::text as table_name, pg_get_partkeydef(p.partrelid) as key,
  bool_and(coalesce(a.attname in ('adv_campaign_id', 'client_id'), false)) as can_be_unique,
  coalesce(bool_or(a.attname = 'client_id' and o.collname not in ('C', 'POSIX')), false) as client_in_collation,
  coalesce(bool_or(a.attname = 'adv_campaign_id' and o.collname not in ('C', 'POSIX')), false) as campaign_in_collation
from pg_partition_tree(to_regclass($1)) t
join pg_partitioned_table p on p.partrelid = t.relid
cross join unnest(p.partattrs::int2[], p.partcollation::oid[]) k (attnum, collation_oid)
left join pg_attribute a on a.attrelid = p.partrelid and a.attnum = k.attnum and k.attnum > 0
left join pg_collation o on o.oid = k.collation_oid
group by p.partrelid
