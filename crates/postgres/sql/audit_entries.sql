-- Reads the orders of operators, the latest first: since a moment, of somebody, below an id.
-- Locks: none.
-- Index: the primary key of audit.
select id, {micros(at)}, who, what, subject, subject_id, details, origin, host
from dinnerbell.audit
where ($1::int8 is null or at >= to_timestamp($1)) and ($2::text is null or who = $2) and ($3::int8 is null or id < $3)
order by id desc limit $4
