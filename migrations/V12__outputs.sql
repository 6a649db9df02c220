-- The ids of the topics that are written to; since when the topic of drafts is the one that the ledger knows, where it took another one; and when
-- the topic of dead letters was last found to be another one.
alter table dinnerbell.service
    add column if not exists notifications_id text,
    add column if not exists notifications_replaced_at timestamptz,
    add column if not exists dead_letters_id text,
    add column if not exists dead_letters_replaced_at timestamptz;
