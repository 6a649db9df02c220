-- Who ordered what: a row for each order, written in the transaction of the order. It names no client.
create table dinnerbell.audit (
    id int8 generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    who text not null,                   -- the account, or the name given at the sign-in
    what text not null,                  -- paused, resumed, cancelled, resolved, adopted, replayed, republished, signed_in, refused
    subject text not null,               -- service, campaign, lane, lanes, dead_letters, feedback_table
    subject_id text,
    details text not null default '',
    origin text not null,                -- command line, page, api
    host text not null                   -- the machine that took the order
);
-- What is pruned, oldest first.
create index audit_at on dinnerbell.audit (at);
