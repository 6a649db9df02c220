-- Reads what acts on the rows of a table and of its partitions: triggers, rules, constraints, and unique indexes that the service does not know.
-- Locks: none.
-- Index: those of the catalogue.
with
  ids as (select to_regclass($1)::oid as id union select relid from pg_partition_tree(to_regclass($1))),
  tables as (
    select c.oid as id, format('%I.%I', n.nspname, c.relname) as name
    from ids join pg_class c on c.oid = ids.id join pg_namespace n on n.oid = c.relnamespace)
select 'trigger' as kind, quote_ident(t.tgname) as name, tables.name as table_name, t.tgtype as trigger
from pg_trigger t join tables on tables.id = t.tgrelid
where not t.tgisinternal and t.tgenabled in ('O', 'A')
union all
select 'rule', quote_ident(r.rulename), tables.name, null
from pg_rewrite r join tables on tables.id = r.ev_class
where r.ev_type = '4' and r.ev_enabled in ('O', 'A')
union all
select case c.contype when 'f' then 'foreign key' when 'c' then 'check' else 'exclusion' end,
  quote_ident(c.conname), tables.name, null
from pg_constraint c join tables on tables.id = c.conrelid
where c.contype in ('f', 'c', 'x')
union all
select case when c.oid is null then 'unique index' else 'unique' end,
  coalesce(quote_ident(c.conname), x.indexrelid::regclass::text), tables.name, null
from pg_index x join tables on tables.id = x.indrelid
left join pg_constraint c on c.conindid = x.indexrelid and c.conrelid = x.indrelid and c.contype in ('p', 'u')
where x.indisunique and x.indislive
  and not exists (
    select from pg_attribute a
    where a.attrelid = x.indrelid and a.attnum = any(x.indkey)
    having count(*) filter (where a.attname = 'id') = 1
      or count(*) filter (where a.attname in ('adv_campaign_id', 'client_id')) = 2)
order by 1, 3, 2
