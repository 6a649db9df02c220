-- Reads the sequence behind a table's id, whether it is the column's own or only named in its default.
-- Locks: none.
-- Index: those of the catalogue.
with
  id as (
    select attrelid, attnum, atttypid, attidentity from pg_attribute
    where attrelid = to_regclass($1) and attname = 'id' and not attisdropped),
  given as (
    select d.refobjid as sequence
    from id join pg_attrdef f on f.adrelid = id.attrelid and f.adnum = id.attnum
    join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass
    union
    select to_regclass(pg_get_serial_sequence($1, 'id')) from id)
select format('%I.%I', n.nspname, c.relname) as name,
  format_type(id.atttypid, null) as column_type,
  id.attidentity <> '' or has_sequence_privilege(c.oid, 'usage, update') as usable,
  case when has_sequence_privilege(c.oid, 'usage, select') then pg_sequence_last_value(c.oid) end as last,
  least(s.seqmax, case id.atttypid when 'int2'::regtype then 32767 when 'int4'::regtype then 2147483647
    else 9223372036854775807 end)::int8 as highest,
  s.seqincrement as increment,
  has_sequence_privilege(c.oid, 'select') as may_read,
  exists (select from pg_index i
          where i.indrelid = id.attrelid and i.indisvalid and i.indisunique and i.indnkeyatts = 1
            and i.indkey[0] = id.attnum and i.indpred is null) as is_unique,
  id.attidentity <> '' as is_identity
from id join given on true
join pg_class c on c.oid = given.sequence and c.relkind = 'S'
join pg_namespace n on n.oid = c.relnamespace
join pg_sequence s on s.seqrelid = c.oid
where id.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
