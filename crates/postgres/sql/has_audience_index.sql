-- Says whether a valid index begins with restaurant_id and client_id collate "C", no matter who made it.
-- Locks: none.
-- Index: those of the catalogue.
select exists (
  select from pg_index i
  join pg_attribute r on r.attrelid = i.indrelid and r.attnum = i.indkey[0] and r.attname = 'restaurant_id'
  join pg_attribute c on c.attrelid = i.indrelid and c.attnum = i.indkey[1] and c.attname = 'client_id'
  join pg_collation o on o.oid = i.indcollation[1] and o.collname in ('C', 'POSIX')
  join pg_class k on k.oid = i.indexrelid
  join pg_am a on a.oid = k.relam and a.amname = 'btree'
  where i.indrelid = to_regclass($1) and i.indisvalid)
