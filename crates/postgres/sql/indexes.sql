-- Reads the btree indexes of a table: each with the index of the partitioned table that it belongs to, and its keys as `column/collation`.
-- Locks: none.
-- Index: those of the catalogue.
select c.relname::text as name, i.indisvalid as valid, i.indisunique as is_unique,
  coalesce(pg_get_expr(i.indpred, i.indrelid), '') as predicate,
  (select p.relname::text from pg_inherits h join pg_class p on p.oid = h.inhparent where h.inhrelid = c.oid) as parent,
  array(select coalesce(a.attname, '') || '/' || coalesce(o.collname, '')
        from unnest(i.indkey::int2[], i.indcollation::oid[]) with ordinality k (attnum, collation_oid, n)
        left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum and k.attnum > 0
        left join pg_collation o on o.oid = k.collation_oid
        where k.n <= i.indnkeyatts order by k.n)::text[] as keys
from pg_index i
join pg_class c on c.oid = i.indexrelid
join pg_am m on m.oid = c.relam
where i.indrelid = to_regclass($1) and m.amname = 'btree'
