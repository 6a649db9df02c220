-- Where the sweep for new favourites stood for this lane: a new owner goes on a little before it. It is for speed alone.
alter table dinnerbell.lane
    add column if not exists swept_to int8;
