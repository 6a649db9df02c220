-- Notes the ids of the topics that are written to: of the drafts the first one, of the dead letters the newest. Says whether the topic of
-- dead letters was replaced.
-- Locks: the row of service.
-- Index: none; the table has one row.
with before as (select dead_letters_id from dinnerbell.service for update)
update dinnerbell.service s set notifications_id = coalesce(s.notifications_id, $1),
  dead_letters_id = coalesce($2, s.dead_letters_id),
  dead_letters_replaced_at = case when before.dead_letters_id <> $2 then clock_timestamp() else s.dead_letters_replaced_at end
from before
returning coalesce(before.dead_letters_id <> $2, false) as replaced
