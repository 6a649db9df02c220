-- Finds the rights on the ledger's tables that this user lacks. What the migrations' own table holds is only read.
-- Locks: none.
-- Index: those of the catalogue.
select r.word, c.relname::text as table_name
from pg_class c cross join (values ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) r (word)
where c.relnamespace = to_regnamespace('dinnerbell') and c.relkind in ('r', 'p') and c.relname <> 'migrations'
  and not has_table_privilege(c.oid, r.word)
order by 2, 1
