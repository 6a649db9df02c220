-- Finds the backends that hold a lane's advisory lock: of a bigint key, the halves $1 and $2, and objsubid 1.
-- Locks: none.
-- Index: none; pg_locks is a view of what the server has in memory.
select l.pid, coalesce(a.usename::text, '?') as role
from pg_locks l left join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.granted and l.classid = $1 and l.objid = $2 and l.objsubid = 1
  and l.database = (select oid from pg_database where datname = current_database())
  and l.pid <> pg_backend_pid()
