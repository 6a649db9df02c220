-- The ledger: what was received, decided and announced. It lives in the feedback database, so that a decision and its rows are one
-- transaction. Times of day are the database's own clock; windows are epoch seconds as the sender gave them.

-- Whose ledger this is. One row.
create table dinnerbell.service (
    only_row boolean primary key default true check (only_row),
    ledger uuid not null,
    cluster_id text not null,
    group_id text not null,
    campaigns_topic text not null,
    notifications_topic text not null,
    claimed_at timestamptz not null default clock_timestamp(),
    paused_at timestamptz,
    paused_by text
);

-- One partition of the campaigns topic.
create table dinnerbell.lane (
    lane int4 primary key,
    lock_key int8 not null,              -- of the lane's advisory lock: 64 random bits
    epoch int8 not null default 0,       -- + 1 with each owner
    seq int8 not null default 0,         -- the last recorded round
    published_seq int8,                  -- the last round known to be committed in Kafka
    position int8 not null,              -- the next input offset to record
    last_offset int8,                    -- the last record taken in, to know the topic again
    last_timestamp int8,
    last_hash int8,
    owner text,
    entered_at timestamptz,
    halted text,                         -- the halt's name
    halted_found text,
    halted_remedy text,
    halted_at timestamptz,
    resolved_at timestamptz,             -- when an operator last resolved a halt
    resolved_by text,                    -- who, and how
    overrule boolean not null default false, -- an operator decided that the ledger is right and Kafka's mark is not
    -- Each input record ends as exactly one of these; they add up to records.
    records int8 not null default 0,
    campaigns int8 not null default 0,
    updates int8 not null default 0,
    older_updates int8 not null default 0,
    duplicates int8 not null default 0,
    handed_over int8 not null default 0,
    cancellations int8 not null default 0,
    dead_letters int8 not null default 0
) with (fillfactor = 50);

create table dinnerbell.campaign (
    adv_campaign_id text primary key,
    lane int4 not null,                  -- whose intake recorded it first
    state text not null check (state in ('scheduled', 'active', 'complete', 'closed', 'expired', 'cancelled')),
    revision int4 not null default 1,    -- + 1 with each update
    restaurant_id text,                  -- null for a campaign that was cancelled before it arrived
    adv_campaign_content text,
    adv_campaign_owner text,
    adv_campaign_owner_contact text,
    adv_campaign_datetime_start int8,
    adv_campaign_datetime_end int8,
    datetime_created int8,
    cursor text collate "C",             -- the last client of the main pass
    last_page_seq int8,                  -- the round that holds the main pass's last page
    told int8 not null default 0,        -- drafts recorded, late ones included
    late int8 not null default 0,        -- those of late subscribers among them
    skipped int8 not null default 0,     -- client ids that are empty or too long
    kept int8 not null default 0,        -- withdrawn drafts whose row stays because somebody answered in it
    unsent int8,                         -- who was not told when the end passed; counted in the background
    repass_at int8,                      -- when its audience is to be passed again, for those whom the sweep missed
    audience_as_of timestamptz,          -- when the last page was read
    received_at timestamptz not null default clock_timestamp(),
    received_offset int8,
    cancelled_at timestamptz,
    first_draft_at timestamptz,
    last_draft_at timestamptz
) with (fillfactor = 50);
create index campaign_of_lane on dinnerbell.campaign (lane, state, adv_campaign_datetime_start, adv_campaign_id)
    where state in ('scheduled', 'active', 'complete');

create index campaign_of_restaurant on dinnerbell.campaign (lane, restaurant_id) where state in ('active', 'complete');
create index campaign_repass on dinnerbell.campaign (lane, repass_at) where state in ('active', 'complete');
create index campaign_uncounted on dinnerbell.campaign (lane) where unsent is null and state in ('expired', 'closed');

-- A round: the frozen decision of who is told what.
create table dinnerbell.round (
    lane int4 not null,
    seq int8 not null,
    revision int4 not null default 0,    -- + 1 with each withdrawal
    checksum int8 not null,
    drafts int8 not null,
    position int8 not null,              -- the input offset committed with it
    trigger_datetime_created int8 not null,
    dead_letters int8[] not null default '{}',
    recorded_at timestamptz not null default clock_timestamp(),
    primary key (lane, seq)
);

-- The drafts of a round by campaign: a range of the main pass with what was skipped in it, and the late ones by name.
create table dinnerbell.round_part (
    lane int4 not null,
    seq int8 not null,
    part int4 not null,
    adv_campaign_id text not null,
    campaign_revision int4 not null,
    has_page boolean not null,
    after_client text collate "C",       -- exclusive; null from the beginning
    upto_client text collate "C",        -- inclusive; null where nobody stands on the page
    last_page boolean not null,
    already_told text[] collate "C" not null default '{}',
    skipped int8 not null default 0,
    late text[] collate "C" not null default '{}',
    drafts int8 not null,
    checksum int8 not null,
    primary key (lane, seq, part)
);

create table dinnerbell.dead_letter (
    id int8 generated always as identity primary key,
    lane int4 not null,                  -- whose rounds publish it
    arrived_lane int4 not null,          -- where it arrived
    record_offset int8 not null,
    record_timestamp int8,
    key bytea,
    value bytea,
    header_names text[] not null default '{}',
    header_values bytea[] not null default '{}',
    reason text not null,
    field text,
    arrived_at timestamptz not null default clock_timestamp(),
    round_seq int8,                      -- the round that publishes it
    replayed_at timestamptz,
    replayed_by text
);
create index dead_letter_unpublished on dinnerbell.dead_letter (lane, id) where round_seq is null;

-- What arrived in one lane about a campaign of another; its owner judges it.
create table dinnerbell.change (
    id int8 generated always as identity primary key,
    adv_campaign_id text not null,
    from_lane int4,                      -- null: an operator
    record_offset int8,
    record_timestamp int8,
    key bytea,
    value bytea,
    header_names text[] not null default '{}',
    header_values bytea[] not null default '{}',
    arrived_at timestamptz not null default clock_timestamp(),
    arrived_by text,
    judged_as text,                      -- null until its owner judged it
    judged_at timestamptz
);
create index change_unjudged on dinnerbell.change (adv_campaign_id) where judged_as is null;
