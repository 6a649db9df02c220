-- Reads the columns of a table, with what this user may do with them and with the table.
-- Locks: none.
-- Index: those of the catalogue.
select a.attname::text as name, {base_type} as kind,
  a.attnotnull and not a.atthasdef and a.attidentity = '' as must_be_given,
  has_column_privilege(c.oid, a.attnum, 'select') as may_select,
  has_column_privilege(c.oid, a.attnum, 'insert') as may_insert,
  has_table_privilege(c.oid, 'delete') as may_delete,
  case when coalesce(nullif(t.typbasetype, 0), t.oid) = 'varchar'::regtype
    then nullif(case when t.typbasetype = 0 then a.atttypmod else t.typtypmod end, -1) - 4 end as most,
  a.attnotnull or t.typnotnull as not_null,
  a.attgenerated <> '' as generated,
  row_security_active(c.oid) as hides_rows
from pg_class c
join pg_attribute a on a.attrelid = c.oid
join pg_type t on t.oid = a.atttypid
where c.oid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
order by a.attnum
