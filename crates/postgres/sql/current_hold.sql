-- Reads the lanes that keep a hold up, each with its cause; one row without a lane where the ledger has none of them yet. No row without a hold.
-- Locks: none.
-- Index: none; there are few lanes and few locks.
select l.lane,
  case when l.halted = any($1) then 'lost' when l.halted = any($2) then 'halted' when h.pid is not null then 'locked'
    when not {untouched(l)} then '' when l.entered_at > pg_postmaster_start_time() then 'entered' else '' end,
  l.halted, h.pid, h.role, l.owner, pg_postmaster_start_time() > clock_timestamp() - interval '10 s'
from dinnerbell.service s
left join dinnerbell.lane l on l.compared is distinct from {comparison} or not {untouched(l)} or l.halted = any($1)
left join lateral (
  select a.pid, a.usename::text as role from pg_locks k join pg_stat_activity a using (pid)
  where k.locktype = 'advisory' and k.objsubid = 1 and k.granted
    and k.classid::int8 = (l.lock_key >> 32) & $3 and k.objid::int8 = l.lock_key & $3
    and k.database = (select oid from pg_database where datname = current_database())
    and a.usename <> current_user and not pg_has_role(a.usename, 'USAGE') and not pg_has_role('pg_signal_backend', 'USAGE')
  limit 1) h on true
where {held}
order by l.lane
