-- Rows of withdrawn drafts that somebody's open transaction had locked: nobody is told by them, and they go as soon as they are free, unless
-- somebody answered in them. A row is the withdrawn one only while it was formed at that second.
create table dinnerbell.locked_row (
    adv_campaign_id text collate "C" not null,
    client_id text collate "C" not null,
    trigger_datetime_created int8 not null,
    locked_at timestamptz not null default clock_timestamp(),
    primary key (adv_campaign_id, client_id)
);

-- For whom parts of a lane's work wait, and since when. Shown to operators as long as the holder's transaction is open; nothing follows from it.
create table dinnerbell.lock_wait (
    lane int4 not null,
    part text not null,
    since timestamptz not null default clock_timestamp(),
    waits_for text not null,
    pid int4 not null,
    transaction text not null,
    primary key (lane, part)
);
