-- Finds when both sinks were compared last.
-- Locks: none.
-- Index: audit_verified.
select id, {micros(at)}, who, what, subject, subject_id, details, origin, host
from dinnerbell.audit
where what = 'verified'
order by id desc limit 1
