-- Reads what the ledger knows of the topics that are written to.
-- Locks: none.
-- Index: dead_letter_arrived.
select notifications_id, dead_letters_id,
  floor(extract(epoch from notifications_replaced_at))::int8 as notifications_replaced,
  dead_letters_replaced_at::text as dead_letters_replaced,
  (select count(*) from dinnerbell.dead_letter
   where round_seq is not null and arrived_at < dead_letters_replaced_at) as letters_before
from dinnerbell.service
